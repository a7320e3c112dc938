"""Stages 0 and 1 of recipes whose corpus is synthesised: what their programs have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lhotse import CutSet

from valle.bin.terminal import progress_bar
from valle.corpora.report import corpus_being_written, part_sizes, summary_lines, write_left_out, write_report

Config = TypeVar("Config")


def corpus_of(settings: Any, kind: type[Config]) -> Config:
    """The settings of the corpus among those of its program."""
    return kind(**{entry.name: getattr(settings, entry.name) for entry in fields(kind)})  # type: ignore[arg-type]


def synthesise(write: Callable[..., Any], settings: Any, kind: type[Any], *, of: str = "utterances") -> None:
    """Stage 0: the corpus in ``settings.output_dir``, by ``settings.num_workers``, and what was made as lines."""
    with progress_bar("synthesis", "h") as progress:
        report = write(settings.output_dir, config=corpus_of(settings, kind), num_workers=settings.num_workers, progress=progress)
    for part, size in report.parts.items():
        print(f"{part}: {size.num_utterances} {of}, {size.seconds / 3600:.2f} h")


@dataclass(frozen=True, kw_only=True)
class ManifestSettings:
    """Where a corpus's manifests go; each program adds where the corpus is."""

    output_dir: Path = field(default=Path("data/manifests"), metadata={"help": "where the manifests go"})
    report: Path = field(default=Path("data/report.html"), metadata={"help": "page of what was kept"})


def write_corpus(
    settings: ManifestSettings, prepare: Callable[[], dict[str, CutSet]], *, title: str, more: dict[Path, Callable[[], None]] | None = None
) -> None:
    """Stage 1: what ``prepare`` writes into ``settings.output_dir``, the report, and ``more`` files, each by its own function."""
    left_out, more = settings.output_dir / "left_out.jsonl", more or {}
    with corpus_being_written(settings.output_dir, settings.report, *more):
        with progress_bar("manifests", "parts") as progress:
            sizes = part_sizes(prepare())
            progress(len(sizes), len(sizes))
        for write in more.values():
            write()
        write_left_out([], left_out)
        write_report(settings.report, title=title, left_out=left_out, sizes=sizes)
    print("\n".join(summary_lines(settings.output_dir, sizes)))
