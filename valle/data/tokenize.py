"""Units and codes of every cut of a manifest, shard by shard, in memory that does not grow with the corpus.

    OUTPUT/shards/PART-00000.h5          int16 arrays `N-units` (T_u,) and `N-codes` (T, Q), N counts cuts in the shard
    OUTPUT/shards/PART-00000.jsonl.gz    the cuts with their fields `units` and `codes`
    OUTPUT/shards/PART-00000.json        counts; written last, so that the shard is finished
    OUTPUT/shards/PART.json              how many shards there are; written when the part is finished

A shard is a run of consecutive cuts.  Which cuts, and which tokenizers, is hashed into its last file: a finished shard
is skipped, and one that was made of something else is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import NumpyHdf5Writer
from lhotse.array import TemporalArray
from lhotse.cut import Cut
from lhotse.features.io import close_cached_file_handles
from lhotse.utils import fastcopy
from numpy.typing import NDArray

from valle.corpora.manifests import duration_of, parse_cut, read_lines, write_cuts
from valle.corpora.report_reasons import PARTS
from valle.data.tokenize_batches import BatchTokenizer, CutTokens, TokenizeError
from valle.files import replacing
from valle.timeline import Grid
from valle.tokenizers.registry import load_acoustic, load_semantic

FORMAT_VERSION = 1  # raise it with every change of what a shard holds

Progress = Callable[[float, float], None]


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """What to tokenise, by what, and how much at a time."""

    manifest_dir: Path = field(default=Path("data/manifests"), metadata={"help": "folder of cuts_{train,dev,test}.jsonl.gz"})
    tokenizer_dir: Path = field(default=Path("data/tokenizers"), metadata={"help": "folder of acoustic/ and, for units, semantic/"})
    output_dir: Path = field(default=Path("data/tokenized"), metadata={"help": "where shards/ goes"})
    batch_seconds: float = field(default=60.0, metadata={"help": "seconds of padded audio in a batch"})
    shard_seconds: float = field(default=1800.0, metadata={"help": "seconds of audio in a shard, the work that a kill can lose"})
    num_workers: int = field(default=2, metadata={"help": "threads, each with a batch of its own to read and encode"})
    device: str = field(default="cpu", metadata={"help": "cpu, or cuda where there is one"})

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


def tokenize_cuts(config: TokenizeConfig, *, progress: Progress | None = None) -> dict[str, PartTokens]:
    """Tokenise train, dev and test, or what is left of them.  ``progress(seconds_done, seconds_wanted)`` after each batch."""
    paths = {part: config.manifest_dir / f"cuts_{part}.jsonl.gz" for part in PARTS}
    for path in paths.values():
        if not path.is_file():
            raise TokenizeError(f"expected cuts in {path}, found none; run stage 1 of prepare.sh first")
    tokenizer = BatchTokenizer(
        load_acoustic(str(config.tokenizer_dir / "acoustic")),
        load_semantic(str(config.tokenizer_dir / "semantic")) if (config.tokenizer_dir / "semantic").is_dir() else None,
        device=config.device,
        batch_seconds=config.batch_seconds,
        num_workers=config.num_workers,
    )
    wanted = sum(duration_of(line, path) for path in paths.values() for line in read_lines(path)) if progress else 0.0
    done = 0.0

    def count(seconds: float) -> None:
        nonlocal done
        done += seconds
        if progress:
            progress(done, wanted)

    with tokenizer:
        return {part: _tokenize_part(path, part, tokenizer, config, count) for part, path in paths.items()}


def shards_folder(output_dir: Path) -> Path:
    return output_dir / "shards"


def _tokenize_part(path: Path, part: str, tokenizer: BatchTokenizer, config: TokenizeConfig, count: Callable[[float], None]) -> PartTokens:
    folder = shards_folder(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.json").unlink(missing_ok=True)
    totals = {"num_cuts": 0, "seconds": 0.0, "num_dropped": 0}
    num_shards = 0
    for number, lines in enumerate(_shards(path, config.shard_seconds)):
        stem = folder / f"{part}-{number:05d}"
        fingerprint = _fingerprint(lines, tokenizer, config)
        found = read_json(stem.with_suffix(".json"))
        if found is None or found["fingerprint"] != fingerprint:
            found = {"fingerprint": fingerprint, **_write_shard(stem, [parse_cut(line, path) for line in lines], tokenizer, count)}
            write_json(stem.with_suffix(".json"), found)
        else:
            count(sum(duration_of(line, path) for line in lines))
        totals = {key: value + found[key] for key, value in totals.items()}
        num_shards = number + 1
    _delete_beyond(folder, part, num_shards)
    write_json(folder / f"{part}.json", {"num_shards": num_shards, **totals, **tokenizer.describe()})
    return PartTokens(num_shards=num_shards, **totals)  # type: ignore[arg-type]


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
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, tokenizer.describe(), str(config.output_dir), config.batch_seconds]).encode())
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def _write_shard(stem: Path, cuts: list[Cut], tokenizer: BatchTokenizer, count: Callable[[float], None]) -> dict[str, Any]:
    """Tokenise the cuts of a shard; returns the counts that go into its last file."""
    tokens: list[CutTokens | None] = [None] * len(cuts)
    for indexes, batch in tokenizer.encode_all(cuts):
        for index, encoded in zip(indexes, batch, strict=True):
            tokens[index] = encoded
        count(sum(cuts[index].duration for index in indexes))
    arrays = stem.with_suffix(".h5")
    kept = []
    with replacing(arrays, ending=".tmp.h5") as temporary, NumpyHdf5Writer(temporary) as writer:
        for number, (cut, result) in enumerate(zip(cuts, tokens, strict=True)):
            if result is not None and len(result.codes):
                kept.append(_with_tokens(cut, result, tokenizer, writer, key=f"{number:05d}", path=arrays))
    close_cached_file_handles()  # lhotse would go on to read the file that lay there before
    write_cuts(kept, stem.with_suffix(".jsonl.gz"))
    present = [result for result in tokens if result is not None and len(result.codes)]
    return {
        "num_cuts": len(kept),
        "num_dropped": len(cuts) - len(kept),
        "seconds": round(sum(cut.duration for cut in kept), 3),
        **_count_tokens(present, tokenizer),
    }


def _with_tokens(cut: Cut, tokens: CutTokens, tokenizer: BatchTokenizer, writer: NumpyHdf5Writer, *, key: str, path: Path) -> Cut:
    """A copy of the cut with the fields `codes` and, where there are units, `units`."""

    def store(name: str, values: NDArray[np.int16], grid: Grid) -> TemporalArray:
        stored = writer.store_array(key=f"{key}-{name}", value=values, frame_shift=float(grid.step), temporal_dim=0, start=cut.start)
        return fastcopy(stored, array=fastcopy(stored.array, storage_path=str(path)))

    fields: dict[str, Any] = {"codes": store("codes", tokens.codes, tokenizer.timeline.codes)}
    if tokens.units is not None:
        assert tokenizer.timeline.units is not None
        fields["units"] = store("units", tokens.units, tokenizer.timeline.units)
    return fastcopy(cut, custom={**(cut.custom or {}), **fields, "tokenizers": tokenizer.label})


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
    for path in folder.iterdir():
        name = path.name.lstrip(".")
        number = name.removeprefix(f"{part}-").split(".")[0]
        if name.startswith(f"{part}-") and number.isdigit() and (path.name != name or int(number) >= num_shards):
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
