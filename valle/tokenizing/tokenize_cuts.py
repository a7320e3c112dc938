"""Units and codes of every cut of a manifest, shard by shard, in memory that does not grow with the corpus.

    OUTPUT/shards/PART-00000.h5          the tokens, int16; ``valle.tokenizing.formats`` says how, and in which other formats
    OUTPUT/shards/PART-00000.jsonl.gz    the cuts with their fields `units` and `codes`
    OUTPUT/shards/PART-00000.json        counts; written last, so that the shard is finished
    OUTPUT/shards/PART.json              how many shards there are; written when the part is finished

A shard is a run of consecutive cuts.  Which cuts, and which tokenizers, is hashed into its last file: a finished shard
is skipped, and one that was made of something else is made again.  Several processes take the shards in turn.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lhotse.cut import Cut

from valle.corpora.manifests import duration_of, parse_cut, read_lines
from valle.corpora.report_reasons import PARTS
from valle.files import replacing
from valle.measures.level import Level
from valle.progress import Progress
from valle.tokenizers.kmeans_fit import ALONE, Processes
from valle.tokenizers.registry import load_acoustic, load_semantic
from valle.tokenizing.encode_batches import BatchTokenizer, ChangedTokens, CutTokens, TokenizeError
from valle.tokenizing.formats import Format, ShardStore, Tokenized

FORMAT_VERSION = 1  # raise it with every change of what a shard holds



@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """What to tokenise, by what, and how much at a time."""

    manifest_dir: Path = field(default=Path("data/manifests"), metadata={"help": "folder of cuts_{train,dev,test}.jsonl.gz"})
    tokenizer_dir: Path = field(default=Path("data/tokenizers"), metadata={"help": "folder of acoustic/ and, for units, semantic/"})
    output_dir: Path = field(default=Path("data/tokenized"), metadata={"help": "where shards/ goes"})
    batch_seconds: float = field(default=60.0, metadata={"help": "seconds of padded audio in a batch"})
    shard_seconds: float = field(default=1800.0, metadata={"help": "seconds of audio per shard; a killed run loses at most one"})
    num_workers: int = field(default=2, metadata={"help": "threads; each reads and encodes its own batches"})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda"})
    dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "bfloat16 changes some tokens; it prints how many"})
    level: Level = field(
        default="none", metadata={"help": "speech: bring every cut to one active speech level first, and store the gain with it; or none"}
    )
    format: Format = field(default="hdf5", metadata={"help": "format: hdf5, shar (a stream), or memmap (one flat file per part)"})

    def __post_init__(self) -> None:
        for name in ("batch_seconds", "shard_seconds", "num_workers"):
            if not getattr(self, name) > 0:
                raise TokenizeError(
                    f"--{name.replace('_', '-')} must be above 0, found {getattr(self, name)}; leave it out for its default"
                )


@dataclass(frozen=True)
class PartTokens:
    """What a tokenised part holds."""

    num_shards: int
    num_cuts: int
    seconds: float
    num_dropped: int  # cuts shorter than one period of the timeline
    changed: ChangedTokens  # by a lower precision than float32, in a sample of batches


def tokenize_cuts(
    config: TokenizeConfig, *, progress: Progress | None = None, processes: Processes = ALONE, device: torch.device | None = None
) -> dict[str, PartTokens]:
    """Tokenise train, dev and test, or what is left of them.

    ``progress(seconds_done, seconds_wanted)`` after each batch counts what this process has to do.  ``device`` is this
    process's own, where it is not just what the settings name.
    """
    paths = manifests_of(config.manifest_dir)
    tokenizer = BatchTokenizer(
        load_acoustic(str(config.tokenizer_dir / "acoustic")),
        load_semantic(str(config.tokenizer_dir / "semantic")) if (config.tokenizer_dir / "semantic").is_dir() else None,
        device=device or config.device,
        batch_seconds=config.batch_seconds,
        num_workers=config.num_workers,
        dtype=getattr(torch, config.dtype),
        level=config.level,
    )
    wanted = 0.0
    if progress:
        for path in paths.values():
            wanted += sum(duration_of(line, path) for _, lines in _own_shards(path, config, processes) for line in lines)
    done = 0.0

    def count(seconds: float) -> None:
        nonlocal done
        done += seconds
        if progress:
            progress(done, wanted)

    with tokenizer:
        return {part: _Part(path, part, tokenizer, config, processes).tokenize(count) for part, path in paths.items()}


def manifests_of(folder: Path) -> dict[str, Path]:
    """The manifest of each part; raises ``TokenizeError`` unless all are there."""
    paths = {part: folder / f"cuts_{part}.jsonl.gz" for part in PARTS}
    for path in paths.values():
        if not path.is_file():
            raise TokenizeError(f"expected cuts in {path}, found none; run stage 1 of prepare.sh first")
    return paths


def shards_folder(output_dir: Path) -> Path:
    return output_dir / "shards"


class _Part:
    """One of train, dev and test: this process's shards of it, and what stands when all processes are done."""

    def __init__(self, path: Path, part: str, tokenizer: BatchTokenizer, config: TokenizeConfig, processes: Processes) -> None:
        self.path, self.part, self.tokenizer, self.config, self.processes = path, part, tokenizer, config, processes
        self.folder = shards_folder(config.output_dir)
        self.store = ShardStore(
            folder=self.folder, part=part, format=config.format, timeline=tokenizer.timeline, label=tokenizer.label
        )  # fmt: skip

    def tokenize(self, count: Callable[[float], None]) -> PartTokens:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{self.part}.json").unlink(missing_ok=True)
        self.processes.gather(None)  # nobody has finished the part before everybody has begun it
        for number, lines in _own_shards(self.path, self.config, self.processes):
            done = self._done_path(number)
            fingerprint = _fingerprint(lines, self.tokenizer, self.config)
            found = read_json(done)
            if found is None or found["fingerprint"] != fingerprint:
                done.unlink(missing_ok=True)  # what it speaks of is about to change
                cuts = [parse_cut(line, self.path) for line in lines]
                write_json(done, {"fingerprint": fingerprint, **self._write_shard(number, cuts, count)})
            else:
                count(sum(duration_of(line, self.path) for line in lines))
        self.processes.gather(None)  # everybody's shards are there
        if self.processes.rank == 0:
            self._finish()
        self.processes.gather(None)
        return self._totals(sum(1 for _ in _shards(self.path, self.config.shard_seconds)))

    def _done_path(self, number: int) -> Path:
        return self.folder / f"{self.part}-{number:05d}.json"

    def _finish(self) -> None:
        """Say that the part is whole, and remove what does not belong to it."""
        num_shards = sum(1 for _ in _shards(self.path, self.config.shard_seconds))
        _delete_beyond(self.folder, self.part, num_shards)
        totals = self._totals(num_shards)
        values = {"num_cuts": totals.num_cuts, "seconds": totals.seconds, "num_dropped": totals.num_dropped}
        described = {**self.tokenizer.describe(), "format": self.config.format, "level": self.config.level}
        if totals.changed.compared:
            described["changed"] = totals.changed.to_dict()
        write_json(self.folder / f"{self.part}.json", {"num_shards": num_shards, **values, **described})

    def _totals(self, num_shards: int) -> PartTokens:
        num_cuts, seconds, num_dropped, changed = 0, 0.0, 0, ChangedTokens()
        for number in range(num_shards):
            found = read_json(self._done_path(number))
            if found is None:
                raise TokenizeError(f"shard {number} of {self.part} is missing in {self.folder}; run the same command again")
            num_cuts, seconds, num_dropped = num_cuts + found["num_cuts"], seconds + found["seconds"], num_dropped + found["num_dropped"]
            changed.update(found.get("changed", {}))
        return PartTokens(num_shards=num_shards, num_cuts=num_cuts, seconds=seconds, num_dropped=num_dropped, changed=changed)

    def _write_shard(self, number: int, cuts: list[Cut], count: Callable[[float], None]) -> dict[str, Any]:
        """Tokenise the cuts of a shard; returns the counts that go into its last file."""
        tokens: list[CutTokens | None] = [None] * len(cuts)
        self.tokenizer.changed = ChangedTokens()
        for indexes, batch in self.tokenizer.encode_all(cuts):
            for index, encoded in zip(indexes, batch, strict=True):
                tokens[index] = encoded
            count(sum(cuts[index].duration for index in indexes))
        kept = [Tokenized(cut, found) for cut, found in zip(cuts, tokens, strict=True) if found is not None and len(found.codes)]
        self.store.write(number, kept)
        changed = {"changed": self.tokenizer.changed.to_dict()} if self.tokenizer.changed.compared else {}
        return {
            "num_cuts": len(kept),
            "num_dropped": len(cuts) - len(kept),
            "seconds": round(sum(item.cut.duration for item in kept), 3),
            **_count_tokens([item.tokens for item in kept], self.tokenizer),
            **changed,
        }


def _own_shards(path: Path, config: TokenizeConfig, processes: Processes) -> Iterator[tuple[int, list[str]]]:
    """The shards of one process, by number: they are dealt in turn."""
    for number, lines in enumerate(_shards(path, config.shard_seconds)):
        if number % processes.size == processes.rank:
            yield number, lines


def _shards(path: Path, shard_seconds: float) -> Iterator[list[str]]:
    """Runs of lines that just reach ``shard_seconds``; a function of the manifest alone."""
    lines: list[str] = []
    seconds = 0.0
    for line in read_lines(path):
        lines.append(line)
        seconds += duration_of(line, path)
        if seconds >= shard_seconds:
            yield lines
            lines, seconds = [], 0.0
    if lines:
        yield lines


def _fingerprint(lines: list[str], tokenizer: BatchTokenizer, config: TokenizeConfig) -> str:
    made_by = [FORMAT_VERSION, tokenizer.describe(), str(config.output_dir), config.batch_seconds, config.dtype, config.format]
    if config.level != "none":
        made_by.append(config.level)
    digest = hashlib.sha256(json.dumps(made_by).encode())
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def _count_tokens(tokens: list[CutTokens], tokenizer: BatchTokenizer) -> dict[str, Any]:
    """Histograms: of units, of each codebook, and of lengths in whole seconds."""
    size, num_codebooks = tokenizer.acoustic.codebook_size, tokenizer.acoustic.num_codebooks
    codes = np.zeros((num_codebooks, size), np.int64)
    units = np.zeros(tokenizer.semantic.num_units if tokenizer.semantic else 0, np.int64)
    lengths: dict[str, int] = {}
    for item in tokens:
        second = str(int(tokenizer.timeline.seconds_of_frames(len(item.codes))))
        lengths[second] = lengths.get(second, 0) + 1
        for level in range(num_codebooks):
            codes[level] += np.bincount(item.codes[:, level], minlength=size)
        if item.units is not None:
            units += np.bincount(item.units, minlength=len(units))
    return {"units": units.tolist(), "codes": codes.tolist(), "lengths": lengths}


def _delete_beyond(folder: Path, part: str, num_shards: int) -> None:
    """Remove shards of an earlier, longer manifest, and what a killed run left under temporary names."""
    ending = r"(?:json|jsonl\.gz|h5|tar|npy|bin)(?:\.tmp.*)?"
    names = re.compile(rf"(?:{re.escape(part)}-(\d+)|(?:cuts|units|codes)\.(\d+))\.{ending}")
    for path in (*folder.iterdir(), *((folder / part).iterdir() if (folder / part).is_dir() else ())):
        name = path.name.lstrip(".")
        found = names.fullmatch(name)
        if found and (path.name != name or int(found[1] or found[2]) >= num_shards):
            path.unlink()


def read_json(path: Path) -> dict[str, Any] | None:
    """An object of a file written by :func:`write_json`; None where there is none, or none that can be read."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return values


def write_json(path: Path, values: dict[str, Any]) -> None:
    """All of it or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values) + "\n", encoding="utf-8")
