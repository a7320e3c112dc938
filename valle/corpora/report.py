"""What was kept of a corpus, what was left out and why: as lines for the terminal and as one HTML page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from lhotse import CutSet

from valle.corpora.report_reasons import PARTS, LeftOut, Reason
from valle.files import replacing, write_text
from valle.outputs import PREPARE, all_being_written, claim_file, claim_outputs

NOTES_FILE = "notes.txt"
MAX_LISTED = 5000  # a page of more rows is no longer read; the JSON lines beside it hold all


@contextmanager
def corpus_being_written(manifest_dir: Path, *files: Path) -> Iterator[None]:
    """What stage 1 of a recipe writes, claimed before its work: the manifests, what they left out, and other ``files``."""
    beside = [path.name for path in files if path.parent == manifest_dir]  # one claim for a folder, so that one record holds all of it
    names = [*(f"cuts_{part}.jsonl.gz" for part in PARTS), "left_out.jsonl", *beside]
    elsewhere = [path for path in files if path.parent != manifest_dir]
    claims = [claim_outputs(manifest_dir, names, program=PREPARE), *(claim_file(path, program=PREPARE) for path in elsewhere)]
    with all_being_written(claims):
        yield


def write_left_out(entries: Iterable[LeftOut], path: Path) -> Counter[Reason]:
    """Write JSON lines and return how many entries each reason has."""
    counts: Counter[Reason] = Counter()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for entry in entries:
            lines.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
            counts[entry.reason] += 1
    return counts


def write_notes(notes: Sequence[str], manifest_dir: Path) -> None:
    """What was done otherwise than asked, for every report that is made of these manifests."""
    with replacing(manifest_dir / NOTES_FILE) as temporary:
        temporary.write_text("".join(f"{note}\n" for note in notes), encoding="utf-8")


def _read_notes(manifest_dir: Path) -> list[str]:
    path = manifest_dir / NOTES_FILE
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def part_sizes(sets: dict[str, CutSet]) -> dict[str, tuple[int, float]]:
    """(cuts, seconds) of each part, read lazily."""
    sizes = {}
    for part, cuts in sets.items():
        durations = [cut.duration for cut in cuts]
        sizes[part] = (len(durations), sum(durations))
    return sizes


def read_left_out(path: Path) -> Iterator[LeftOut]:
    """Entries of a file of JSON lines, one at a time; none where there is no such file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            values = json.loads(line)
            yield LeftOut(path=values["path"], reason=Reason(values["reason"]), detail=values["detail"])


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> list[str]:
    """Lines of a plain table: the first column to the left, the rest to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]) for row in cells
    ]


def summary_lines(manifest_dir: Path, sizes: dict[str, tuple[int, float]], *, num_shown: int = 20) -> list[str]:
    """For the terminal: sizes of the parts as (cuts, seconds), and what was left out by reason, the first files by name."""
    rows = [(part, cuts, f"{seconds / 3600:.2f}") for part, (cuts, seconds) in sizes.items()]
    lines = table(rows, ("part", "cuts", "hours"))
    counts: Counter[Reason] = Counter()
    shown = []
    for entry in read_left_out(manifest_dir / "left_out.jsonl"):
        if counts.total() < num_shown:
            shown.append(f"  {entry.path}: {entry.reason}{f' ({entry.detail})' if entry.detail else ''}")
        counts[entry.reason] += 1
    if counts:
        lines.append(f"left out: {counts.total()} (" + ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) + ")")
        lines += shown
        if counts.total() > len(shown):
            lines.append(f"  and {counts.total() - len(shown)} more, listed in {manifest_dir / 'left_out.jsonl'}")
    return lines


def write_report(
    path: Path,
    *,
    title: str,
    left_out: Path,
    sizes: dict[str, tuple[int, float]],
    settings: dict[str, Any] | None = None,
    statistics: dict[str, Any] | None = None,
    picture: str | None = None,
) -> None:
    """One page: parts with cuts and hours, what was left out and why, and, once there are tokens, their statistics.

    ``sizes`` gives (cuts, seconds) of each part; ``picture`` is a path relative to the page.  All text is escaped.
    """
    counts: Counter[Reason] = Counter()
    listed: list[LeftOut] = []
    for entry in read_left_out(left_out):
        counts[entry.reason] += 1
        if len(listed) < MAX_LISTED:
            listed.append(entry)
    environment = Environment(
        loader=PackageLoader("valle.corpora"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html").render(
        title=title,
        notes=_read_notes(left_out.parent),
        sizes=sizes,
        counts=sorted(counts.items()),
        num_left_out=counts.total(),
        listed=listed,
        settings=settings or {},
        statistics=statistics or {},
        picture=picture,
    )
    write_text(path, page)
