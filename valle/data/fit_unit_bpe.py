"""A unit BPE fitted on a corpus's training units, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from valle.data.dataset import read_tokens
from valle.errors import UserError
from valle.files import replacing
from valle.outputs import claim_file
from valle.seeds import draw
from valle.tokenizers.unit_bpe import UnitBpe, UnitBpeError, fit_unit_bpe
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests


@dataclass(frozen=True, kw_only=True)
class UnitBpeOptions:
    """Flags of ``bin/fit_unit_bpe.py``."""

    manifest_dir: Path = field(default=Path("data/tokenized"), metadata={"help": "where prepare.sh left cuts_train.jsonl.gz and info.json"})
    output: Path = field(default=Path("data/unit_bpe.json"), metadata={"help": "the file for trainer_audiolm.py --unit-bpe"})
    vocab_size: int = field(default=1000, metadata={"help": "number of tokens, single units included"})
    fit_hours: float = field(default=50.0, metadata={"help": "hours of training cuts to fit on, at most; all are held in memory"})

    def __post_init__(self) -> None:
        if not self.fit_hours > 0:
            raise UserError(f"--fit-hours must be above 0, found {self.fit_hours:g}")


@dataclass(frozen=True)
class FittedUnitBpe:
    """A unit BPE, whose units it knows, and how many frames of the unit grid its tokens last on average in training."""

    bpe: UnitBpe
    semantic_name: str
    semantic_sha256: str
    frames_per_token: float

    def save(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        values = {
            "num_units": self.bpe.num_units, "num_tokens": self.bpe.num_tokens, "frames_per_token": round(self.frames_per_token, 4),
            "semantic": {"name": self.semantic_name, "sha256": self.semantic_sha256}, "sha256": self.bpe.sha256, "model": self.bpe.text,
        }  # fmt: skip
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> FittedUnitBpe:
        """The inverse of ``save``; raises ``UnitBpeError`` for a file that is missing, damaged or has changed."""
        if not path.is_file():
            raise UnitBpeError(f"expected a unit BPE at {path}, found nothing there; run bin/fit_unit_bpe.py, or name one with --unit-bpe")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            bpe = UnitBpe.from_text(values["model"], num_units=int(values["num_units"]))
            semantic, frames_per_token = values["semantic"], float(values["frames_per_token"])
            fitted = cls(bpe, str(semantic["name"]), str(semantic["sha256"]), frames_per_token)
            expected = values["sha256"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnitBpeError(f"expected a unit BPE in {path}, found what cannot be read as one; run bin/fit_unit_bpe.py again") from error
        except UnitBpeError as error:
            raise UnitBpeError(f"{path}: {error}") from error
        if bpe.sha256 != expected:
            raise UnitBpeError(f"the unit BPE in {path} has changed since it was fitted; run bin/fit_unit_bpe.py again")
        return fitted


def fit(options: UnitBpeOptions) -> FittedUnitBpe:
    """Learn byte pairs of the training cuts' units and write them to ``options.output``."""
    outputs = claim_file(options.output, program="fit_unit_bpe")
    manifests = read_manifests(options.manifest_dir)
    if manifests.semantic is None:
        raise ManifestError(f"expected units in {options.manifest_dir}, found codes only; tokenize with units, or train without a unit BPE")
    share = _share(manifests, options.fit_hours)
    bpe = fit_unit_bpe(
        train_units(manifests, share=share), num_units=manifests.semantic.codebook_size, vocab_size=options.vocab_size
    )  # fmt: skip
    frames = tokens = 0
    for units in train_units(manifests, share=share):
        frames, tokens = frames + len(units), tokens + len(bpe.encode(units))
    fitted = FittedUnitBpe(bpe, manifests.semantic.name, manifests.semantic.sha256, frames / tokens)
    with outputs.being_written():
        fitted.save(options.output)
    return fitted


def train_units(manifests: TokenManifests, *, share: float = 1.0) -> Iterator[list[int]]:
    """Units of each training cut, or of a ``share`` of them, chosen by their ids."""
    for cut in manifests.cuts("train"):
        if share >= 1 or draw(0, 0, cut.id, "unit-bpe") < share:
            tokens = read_tokens(cut, manifests, 1)
            yield tokens.units[: tokens.num_periods * manifests.timeline.units_per_period].tolist()


def _share(manifests: TokenManifests, hours: float) -> float:
    seconds = sum(cut.duration for cut in manifests.cuts("train"))
    if not seconds:
        raise ManifestError(f"expected training cuts in {manifests.folder}, found none; run ./prepare.sh")
    return 3600 * hours / seconds
