"""Every tokenizer that is known by name: what it makes, under which licence, and whether its weights are here.

A new one is one entry of ``CATALOGUE``; what loads it is in ``registry.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import log2
from typing import Literal

from valle.errors import UserError
from valle.timeline import Grid


class Weights(Enum):
    """Where a tokenizer's weights are."""

    BUNDLED = "bundled"  # within the package
    HERE = "here"  # in the hub's cache of this machine
    TO_BE_FETCHED = "to be fetched"


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """What is known of a tokenizer before its weights are read."""

    name: str
    kind: Literal["acoustic", "semantic"]
    sample_rate: int  # Hz
    hop_length: int  # samples a token
    num_codebooks: int = 1  # that are used; 1 for units
    codebook_size: int | None  # None: as many units as are fitted on the encoder's states (`bin/tokenizer.py fit`)
    licence: str  # of the weights
    hub: str | None = None  # its name on the hub; None for what is bundled
    files: tuple[str, ...] = ("config.json", "model.safetensors")  # what its folder holds

    def __post_init__(self) -> None:
        if self.kind == "semantic" and self.num_codebooks != 1:
            raise UserError(f"expected one codebook for the units of {self.name}, found {self.num_codebooks}")

    @property
    def grid(self) -> Grid:
        return Grid(sample_rate=self.sample_rate, hop_length=self.hop_length)

    @property
    def bits_per_second(self) -> float | None:
        """At most, with all codebooks; None where the number of units is the fit's."""
        return None if self.codebook_size is None else self.grid.rate * self.num_codebooks * log2(self.codebook_size)

    @property
    def weights(self) -> Weights:
        """Looks at the disk alone, never at the network."""
        if self.hub is None:
            return Weights.BUNDLED
        return Weights.HERE if all(_is_cached(self.hub, file) for file in self.files) else Weights.TO_BE_FETCHED

    @property
    def advice(self) -> str:
        """Where to put weights that are not here; empty for those that are."""
        if self.weights is not Weights.TO_BE_FETCHED:
            return ""
        flag = "--tokenizer" if self.codebook_size is not None else "fit --encoder"
        return f"{' and '.join(self.files)} of {self.hub} into a folder, then {flag} {self.name}=FOLDER"


ENCODER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
OLD_ENCODER_FILES = ("config.json", "preprocessor_config.json", "pytorch_model.bin")  # read as tensors alone


def _encoder(name: str, *, hub: str, licence: str, sample_rate: int = 16000, files: tuple[str, ...] = OLD_ENCODER_FILES) -> CatalogueEntry:
    """A released encoder, of whose states units are fitted."""
    return CatalogueEntry(
        name=name, kind="semantic", sample_rate=sample_rate, hop_length=320, codebook_size=None, licence=licence, hub=hub, files=files
    )


CATALOGUE = (
    CatalogueEntry(
        name="valle-16khz", kind="acoustic", sample_rate=16000, hop_length=320, num_codebooks=8, codebook_size=256, licence="Apache-2.0",
    ),
    CatalogueEntry(
        name="valle-convnext", kind="acoustic", sample_rate=16000, hop_length=320, num_codebooks=8, codebook_size=256,
        licence="Apache-2.0",
    ),
    CatalogueEntry(
        name="mfcc-kmeans", kind="semantic", sample_rate=16000, hop_length=640, codebook_size=200, licence="Apache-2.0",
    ),
    CatalogueEntry(
        name="valle-whisper", kind="semantic", sample_rate=16000, hop_length=320, codebook_size=300, licence="Apache-2.0",
    ),
    CatalogueEntry(
        name="valle-hubert", kind="semantic", sample_rate=16000, hop_length=320, codebook_size=200, licence="Apache-2.0",
    ),
    CatalogueEntry(
        name="encodec-24khz", kind="acoustic", sample_rate=24000, hop_length=320, num_codebooks=8, codebook_size=1024,
        licence="MIT", hub="facebook/encodec_24khz",
    ),
    CatalogueEntry(
        name="encodec-32khz", kind="acoustic", sample_rate=32000, hop_length=640, num_codebooks=4, codebook_size=2048,
        licence="CC-BY-NC-4.0", hub="facebook/encodec_32khz",
    ),
    CatalogueEntry(
        name="dac-16khz", kind="acoustic", sample_rate=16000, hop_length=320, num_codebooks=12, codebook_size=1024,
        licence="MIT", hub="descript/dac_16khz",
    ),
    CatalogueEntry(
        name="dac-24khz", kind="acoustic", sample_rate=24000, hop_length=320, num_codebooks=32, codebook_size=1024,
        licence="MIT", hub="descript/dac_24khz",
    ),
    CatalogueEntry(
        name="dac-44khz", kind="acoustic", sample_rate=44100, hop_length=512, num_codebooks=9, codebook_size=1024,
        licence="MIT", hub="descript/dac_44khz",
    ),
    CatalogueEntry(
        name="mimi", kind="acoustic", sample_rate=24000, hop_length=1920, num_codebooks=32, codebook_size=2048,
        licence="CC-BY-4.0", hub="kyutai/mimi",
    ),
    _encoder("hubert-base", hub="facebook/hubert-base-ls960", licence="Apache-2.0"),
    _encoder("hubert-large", hub="facebook/hubert-large-ll60k", licence="Apache-2.0"),
    _encoder("wavlm-base-plus", hub="microsoft/wavlm-base-plus", licence="MIT or CC-BY-SA-3.0"),
    _encoder("wavlm-large", hub="microsoft/wavlm-large", licence="MIT or CC-BY-SA-3.0"),
    _encoder("wav2vec2-base", hub="facebook/wav2vec2-base", licence="Apache-2.0"),
    _encoder("wav2vec2-large", hub="facebook/wav2vec2-large-lv60", licence="Apache-2.0"),
    _encoder("w2v-bert-2.0", hub="facebook/w2v-bert-2.0", licence="MIT", files=ENCODER_FILES),
    _encoder("mert-95m", hub="m-a-p/MERT-v1-95M", licence="CC-BY-NC-4.0", sample_rate=24000),
    _encoder("mert-330m", hub="m-a-p/MERT-v1-330M", licence="CC-BY-NC-4.0", sample_rate=24000),
    _encoder("whisper-tiny.en", hub="openai/whisper-tiny.en", licence="Apache-2.0", files=ENCODER_FILES),
    _encoder("whisper-base", hub="openai/whisper-base", licence="Apache-2.0", files=ENCODER_FILES),
    _encoder("whisper-small", hub="openai/whisper-small", licence="Apache-2.0", files=ENCODER_FILES),
    *(
        CatalogueEntry(
            name=f"hubert-base-km{size}", kind="semantic", sample_rate=16000, hop_length=320, codebook_size=size,
            licence="Apache-2.0, centroids MIT", hub="facebook/hubert-base-ls960", files=(*OLD_ENCODER_FILES, "km.bin"),
        )
        for size in (50, 100, 200, 500)
    ),
)  # fmt: skip


COLUMNS = ("name", "kind", "Hz", "a second", "codebooks", "kbit/s", "licence", "weights")
WHERE_TO_PUT = (
    "What is to be fetched is fetched on first use, where the hub can be reached.  Elsewhere, put its config.json and model.safetensors "
    "into a folder and name that: --tokenizer NAME=FOLDER.  Where the codebook is to be fitted, with preprocessor_config.json too (and "
    "pytorch_model.bin, if it is all there is): fit --encoder NAME=FOLDER."
)


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Which tokenizers to list."""

    kind: Literal["all", "acoustic", "semantic"] = field(default="all", metadata={"help": "codecs, or what makes units"})


def catalogue_rows(kind: Literal["all", "acoustic", "semantic"]) -> list[tuple[str, ...]]:
    """A row of ``COLUMNS`` for each tokenizer of a kind."""
    rows: list[tuple[str, ...]] = []
    for entry in CATALOGUE:
        if kind in ("all", entry.kind):
            size = "fitted" if entry.codebook_size is None else str(entry.codebook_size)
            bits = entry.bits_per_second
            weights = entry.weights.value + (f" from {entry.hub}" if entry.weights is Weights.TO_BE_FETCHED else "")
            rows.append(
                (
                    entry.name, entry.kind, str(entry.sample_rate), f"{entry.grid.rate:.4g}", f"{entry.num_codebooks} x {size}",
                    "" if bits is None else f"{bits / 1000:.3g}", entry.licence, weights,
                )
            )  # fmt: skip
    return rows


def bundled_names() -> list[str]:
    return [entry.name for entry in CATALOGUE if entry.hub is None]


def find_entry(name: str) -> CatalogueEntry | None:
    """The entry of that name; None for a tokenizer of one's own."""
    return next((entry for entry in CATALOGUE if entry.name == name), None)


def _is_cached(hub: str, file: str) -> bool:
    from huggingface_hub import try_to_load_from_cache  # heavy, and only `list` asks

    return isinstance(try_to_load_from_cache(hub, file), str)
