"""Stage 4: shards become ``cuts_{train,dev,test}.jsonl.gz``, with ``info.json``, statistics, their picture and the report.

Shar shards are read as they are; flat ones become one file a stream and part (``valle.tokenizing.flat_tokens``).  Train cuts
stand in a random order; many of them, and all of Shar, have an index (``valle.tokenizing.cut_index``).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from valle.corpora.manifests import parse_cut, read_lines, write_cuts, write_lines
from valle.corpora.report import write_report
from valle.corpora.report_reasons import PARTS
from valle.outputs import PREPARE, Outputs, all_being_written, claim_file, claim_outputs
from valle.tokenizing.cut_index import NO_SHARD, forget_index, index_names, shar_lines, write_index
from valle.tokenizing.encode_batches import TokenizeError
from valle.tokenizing.flat_tokens import FlatWriter
from valle.tokenizing.shuffle import shuffled
from valle.tokenizing.statistics import PartCounts, draw_statistics
from valle.tokenizing.tokenize_cuts import read_json, shards_folder, write_json

INDEX_FROM = 100_000  # fewer train cuts are read in order by every process, in seconds


@dataclass(frozen=True, kw_only=True)
class FinishConfig:
    """Where the shards are and how the page is called."""

    output_dir: Path = field(default=Path("data/tokenized"), metadata={"help": "folder of shards/; the cuts go there too"})
    manifest_dir: Path = field(default=Path("data/manifests"), metadata={"help": "folder of left_out.jsonl"})
    report: Path = field(default=Path("data/report.html"), metadata={"help": "page of what was kept and what was left out"})
    title: str = field(default="Corpus", metadata={"help": "heading of the page"})
    index_from: int = field(default=INDEX_FROM, metadata={"help": "train cuts from which they are indexed; those of Shar always are"})


def finish_cuts(config: FinishConfig) -> dict[str, PartCounts]:
    """Merge the shards, one cut at a time; ``info.json`` is written last of what training reads."""
    described = {part: _read_part(config.output_dir, part) for part in PARTS}
    first = described["train"]
    for part, values in described.items():
        if values["tokenizers"] != first["tokenizers"]:
            raise TokenizeError(f"train and {part} were tokenised by different tokenizers; delete {config.output_dir} and run ./prepare.sh")
        if values["format"] != first["format"]:
            raise TokenizeError(f"train and {part} are stored in different formats; delete {config.output_dir} and run ./prepare.sh")
    with all_being_written(claim_finished(config)):
        return _write(config, described)


def claim_finished(config: FinishConfig) -> list[Outputs]:
    """What stage 4 writes, but for what only the shards' own names can be; refused where it is somebody else's."""
    cuts = [f"cuts_{part}.jsonl.gz" for part in PARTS]
    return [
        claim_outputs(config.output_dir, [*cuts, *index_names("train"), "info.json", "statistics.png"], program=PREPARE),
        claim_file(config.report, program=PREPARE),
    ]


def _write(config: FinishConfig, described: dict[str, dict[str, Any]]) -> dict[str, PartCounts]:
    first, counts = described["train"], {}
    for part, values in described.items():
        _write_part(config, part, values)
        counts[part] = PartCounts()
        for number in range(values["num_shards"]):
            counts[part].add(_read_shard(config.output_dir, part, number))
    statistics = {part: values.to_dict() for part, values in counts.items()}
    picture = config.output_dir / "statistics.png"
    draw_statistics(picture, counts)
    write_report(
        config.report,
        title=config.title,
        left_out=config.manifest_dir / "left_out.jsonl",
        sizes={part: (values.num_cuts, values.seconds) for part, values in counts.items()},
        settings=_settings(first["tokenizers"]),
        statistics=statistics,
        picture=_relative(picture, config.report.parent),
    )
    info = {"timeline": first["timeline"], "tokenizers": first["tokenizers"], "statistics": statistics}
    if first.get("level", "none") != "none":
        info["level"] = first["level"]
    if first["format"] == "shar":
        info["shar"] = {part: values["num_shards"] for part, values in described.items()}
    write_json(config.output_dir / "info.json", info)
    return counts


def _read_part(output_dir: Path, part: str) -> dict[str, Any]:
    values = read_json(shards_folder(output_dir) / f"{part}.json")
    if values is None:
        folder = shards_folder(output_dir)
        raise TokenizeError(f"expected the finished shards of {part} in {folder}, found them missing; run stage 3 of prepare.sh first")
    return values


def _read_shard(output_dir: Path, part: str, number: int) -> dict[str, Any]:
    values = read_json(shards_folder(output_dir) / f"{part}-{number:05d}.json")
    if values is None:
        raise TokenizeError(f"shard {number} of {part} is missing in {shards_folder(output_dir)}; delete {output_dir} and run ./prepare.sh")
    return values


def _write_part(config: FinishConfig, part: str, described: dict[str, Any]) -> None:
    """What training reads of a part."""
    output_dir, is_train = config.output_dir, part == "train"
    path, streams = output_dir / f"cuts_{part}.jsonl.gz", ("units", "codes") if described["tokenizers"]["semantic"] else ("codes",)
    if is_train:
        forget_index(output_dir, part)
    if described["format"] == "shar":
        path.unlink(missing_ok=True)  # of another format, before
        if is_train:
            folder = shards_folder(output_dir) / part
            paths = [folder / f"cuts.{number:06d}.jsonl.gz" for number in range(described["num_shards"])]
            write_index(shar_lines(paths, streams), output_dir, part)
        return
    lines = _lines(shards_folder(output_dir), part, described["num_shards"])
    if is_train:
        lines = shuffled(lines, num_lines=described["num_cuts"], folder=output_dir)
    if described["format"] == "memmap":
        with FlatWriter(output_dir, part, streams=streams) as writer:
            write_cuts((writer.add(parse_cut(line, path)) for line, _ in lines), path)
        shards = array("i", [NO_SHARD]) * described["num_cuts"]
    else:
        shards = array("i")
        write_lines(_noting_shards(lines, shards), path)
    if is_train and described["num_cuts"] >= config.index_from:
        write_index(zip(read_lines(path), shards, strict=True), output_dir, part)


def _noting_shards(lines: Iterator[tuple[str, int]], shards: array[int]) -> Iterator[str]:
    for line, shard in lines:
        shards.append(shard)
        yield line


def _lines(folder: Path, part: str, num_shards: int) -> Iterator[tuple[str, int]]:
    for number in range(num_shards):
        for line in read_lines(folder / f"{part}-{number:05d}.jsonl.gz"):
            yield line, number


def _settings(tokenizers: dict[str, Any]) -> dict[str, str]:
    return {
        kind: f"{values['name']} ({values['sha256'][:12]}), {values['sample_rate'] / values['hop_length']:g} a second" if values else "none"
        for kind, values in tokenizers.items()
    }


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return path.resolve().as_uri()
