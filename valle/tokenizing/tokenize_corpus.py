"""A corpus of manifests -> what training reads, by one call in each of some processes: stages 2, 3 and 4 of ``prepare.sh``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from valle.measures.level import Level
from valle.progress import Progress
from valle.tokenizers.kmeans_fit import ALONE, Processes
from valle.tokenizing.choose_tokenizers import TokenizersConfig, prepare_tokenizers
from valle.tokenizing.finish_cuts import FinishConfig, claim_finished, finish_cuts
from valle.tokenizing.formats import Format
from valle.tokenizing.tokenize_cuts import PartTokens, TokenizeConfig, manifests_of, tokenize_cuts


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What to tokenise, by what, and how its tokens are stored."""

    manifest_dir: Path = field(default=Path("data/manifests"), metadata={"help": "folder of cuts_{train,dev,test}.jsonl.gz"})
    acoustic: str = field(default="bundled", metadata={"help": "bundled, a name, NAME=FILE_OR_FOLDER, or the folder of a saved tokenizer"})
    semantic: str = field(default="bundled", metadata={"help": "as --acoustic, or none (codes only)"})
    output_dir: Path = field(default=Path("data/tokenized"), metadata={"help": "where tokens go; the tokenizers go to ../tokenizers"})
    format: Format = field(default="hdf5", metadata={"help": "format: hdf5, shar (a stream), or memmap (one flat file per part)"})
    level: Level = field(default="none", metadata={"help": "speech: bring every cut to one active speech level first; or none"})
    dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "bfloat16 changes some tokens; it prints how many"})
    batch_seconds: float = field(default=60.0, metadata={"help": "seconds of padded audio in a batch; 600 or more on a GPU"})
    shard_seconds: float = field(default=1800.0, metadata={"help": "seconds of audio per shard; a killed run loses at most one"})
    num_workers: int = field(default=2, metadata={"help": "threads that read and resample audio, in every process"})
    device: str = field(default="auto", metadata={"help": "auto, cpu or cuda"})
    title: str = field(default="Corpus", metadata={"help": "heading of report.html, beside output_dir"})


def tokenize_corpus(
    config: CorpusConfig, *, processes: Processes = ALONE, device: torch.device | None = None, progress: Progress | None = None
) -> dict[str, PartTokens]:
    """Leave ``output_dir`` as training reads it.  Killed anywhere and called again, with as many processes or others, it goes on."""
    manifests_of(config.manifest_dir)
    folder = config.output_dir.parent
    settings = TokenizeConfig(
        manifest_dir=config.manifest_dir, tokenizer_dir=folder / "tokenizers", output_dir=config.output_dir,
        batch_seconds=config.batch_seconds, shard_seconds=config.shard_seconds, num_workers=config.num_workers,
        device=config.device, dtype=config.dtype, level=config.level, format=config.format,
    )  # fmt: skip
    finish = FinishConfig(
        output_dir=config.output_dir, manifest_dir=config.manifest_dir, report=folder / "report.html", title=config.title
    )
    if processes.rank == 0:
        claim_finished(finish)
        (config.output_dir / "info.json").unlink(missing_ok=True)  # no longer what the shards will be
        prepare_tokenizers(
            TokenizersConfig(
                acoustic=config.acoustic, semantic=config.semantic, manifest_dir=config.manifest_dir, output_dir=settings.tokenizer_dir
            )
        )
    processes.gather(None)  # the tokenizers are there
    parts = tokenize_cuts(settings, progress=progress, processes=processes, device=device)
    if processes.rank == 0:
        finish_cuts(finish)
    processes.gather(None)
    return parts
