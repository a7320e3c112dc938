"""Stage 2: the tokenizers of a corpus, in folders of their own: bundled, named, or fitted on the corpus."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from valle.files import replacing
from valle.outputs import PREPARE, claim_outputs
from valle.progress import Progress
from valle.timeline import Timeline
from valle.tokenizers.base import SemanticTokenizer, Tokenizer, TokenizerIdentity
from valle.tokenizers.mfcc import MfccConfig, fit_mfcc_kmeans
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, BUNDLED_SEMANTIC, load_acoustic, load_semantic, save_tokenizer
from valle.tokenizing.encode_batches import TokenizeError
from valle.tokenizing.training_audio import training_audio


@dataclass(frozen=True, kw_only=True)
class TokenizersConfig:
    """Which tokenizers a corpus is read by."""

    acoustic: str = field(default="bundled", metadata={"help": "bundled, a name, NAME=FILE_OR_FOLDER, or the folder of a saved tokenizer"})
    semantic: str = field(default="bundled", metadata={"help": "as --acoustic, or fit (MFCC k-means on this corpus), or none (codes only)"})
    num_units: int = field(default=200, metadata={"help": "number of units to fit"})
    fit_hours: float = field(default=5.0, metadata={"help": "hours of training audio to fit units on, at most"})
    seed: int = field(default=42, metadata={"help": "of the fit"})
    manifest_dir: Path = field(default=Path("data/manifests"), metadata={"help": "folder of cuts_train.jsonl.gz, to fit on"})
    output_dir: Path = field(default=Path("data/tokenizers"), metadata={"help": "where acoustic/ and semantic/ go"})

    def __post_init__(self) -> None:
        if self.semantic == "fit" and not (self.fit_hours > 0 and self.num_units > 1):
            raise TokenizeError(f"expected hours to fit at least 2 units on, found {self.fit_hours:g} hours and {self.num_units} units")


def prepare_tokenizers(config: TokenizersConfig, *, progress: Progress | None = None) -> tuple[TokenizerIdentity, TokenizerIdentity | None]:
    """Leave ``acoustic/`` and, unless ``semantic`` is none, ``semantic/``; both grids must meet (see ``valle.timeline``).

    ``progress(seconds_done, seconds_wanted)`` is called while units are fitted.
    """
    outputs = claim_outputs(config.output_dir, ["acoustic", "semantic"], program=PREPARE)
    acoustic = load_acoustic(BUNDLED_ACOUSTIC if config.acoustic == "bundled" else config.acoustic)
    semantic = _semantic(config, progress)
    Timeline(codes=acoustic.identity.grid, units=semantic.identity.grid if semantic else None)
    with outputs.being_written():
        _leave(semantic, config.output_dir / "semantic")
        _leave(acoustic, config.output_dir / "acoustic")
    return acoustic.identity, semantic.identity if semantic else None


def _semantic(config: TokenizersConfig, progress: Progress | None) -> SemanticTokenizer | None:
    if config.semantic == "none":
        return None
    if config.semantic != "fit":
        return load_semantic(BUNDLED_SEMANTIC if config.semantic == "bundled" else config.semantic)
    settings = MfccConfig(num_units=config.num_units)
    path = config.manifest_dir / "cuts_train.jsonl.gz"
    if not path.is_file():
        raise TokenizeError(f"expected cuts in {path}, found none; run stage 1 of prepare.sh first")
    audio = training_audio([path], sample_rate=settings.sample_rate, hours=config.fit_hours, seed=config.seed, progress=progress)
    return fit_mfcc_kmeans(audio, settings, seed=config.seed)


def _leave(tokenizer: Tokenizer | None, folder: Path) -> None:
    """The tokenizer's folder, whole or not at all; none for no tokenizer."""
    if tokenizer is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    shutil.rmtree(folder.with_name(f".{folder.name}.tmp"), ignore_errors=True)  # of a killed run
    with replacing(folder) as temporary:
        save_tokenizer(tokenizer, temporary)
        shutil.rmtree(folder, ignore_errors=True)
