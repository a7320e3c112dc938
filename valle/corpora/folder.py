"""Anyone's own recordings, as they lie in a folder, as lhotse cuts.

Files of any format, rate, width and number of channels; long ones are cut at quiet places or into windows.  What cannot
be used is left out with its reason and stops nothing.  Files, or the speakers that sub-folders stand for, are split over
train, dev and test; with fewer than three of them, each is split in time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from lhotse import Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.cut import Cut, MonoCut, MultiCut
from lhotse.qa import validate

from valle.corpora.folder_scan import Scanned, ScanSettings, scan_folder, without_same_sound
from valle.corpora.folder_segments import Cutting, Segment
from valle.corpora.folder_walk import AudioFile, FolderError, walk_folder
from valle.corpora.manifests import write_cuts
from valle.corpora.pieces import ends_of_piece
from valle.corpora.report import write_left_out, write_notes
from valle.corpora.report_reasons import PARTS, LeftOut
from valle.corpora.splits import split_groups, split_time
from valle.progress import Progress

SHORTEST_PIECE = 0.5  # seconds: what the trainer's --filter-min-duration keeps


class SplitBy(StrEnum):
    """What is never in two parts."""

    file = "file"
    speaker = "speaker"


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """Which audio, how it is cut and how it is split."""

    audio_dir: Path = field(metadata={"help": "folder of recordings, nested as you like"})
    output_dir: Path = field(default=Path("data/manifests"), metadata={"help": "where the manifests go"})
    cache_dir: Path = field(default=Path("data/audio"), metadata={"help": "where 16-bit copies of m4a and the like go"})
    scan_log: Path = field(default=Path("data/scan.jsonl"), metadata={"help": "record of scanned files, to continue after a kill"})
    report: Path = field(default=Path("data/report.html"), metadata={"help": "page of what was kept and what was left out"})
    min_seconds: float = field(default=1.0, metadata={"help": "shorter files are left out"})
    max_seconds: float = field(default=15.0, metadata={"help": "longer files are cut"})
    cutting: Cutting = field(default=Cutting.silence, metadata={"help": "cut at quiet places (silence) or evenly (windows)"})
    split_by: SplitBy = field(default=SplitBy.file, metadata={"help": "file, or speaker: the folder at the top that a file is in"})
    dev_share: float = field(default=0.05, metadata={"help": "share of files or speakers for dev"})
    test_share: float = field(default=0.05, metadata={"help": "share of files or speakers for test"})
    seed: int = field(default=42, metadata={"help": "another seed gives another split"})
    num_workers: int = field(default=2, metadata={"help": "threads that decode files"})

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds <= self.max_seconds / 2:
            raise FolderError(
                "--max-seconds must be at least twice --min-seconds, which is above 0, "
                f"found {self.min_seconds:g} to {self.max_seconds:g}; raise the one or lower the other"
            )
        if min(self.dev_share, self.test_share) < 0 or self.dev_share + self.test_share >= 1:
            raise FolderError(f"shares for dev and test must leave something for train, found {self.dev_share:g} and {self.test_share:g}")
        if self.num_workers < 1:
            raise FolderError(f"expected at least 1 worker, found {self.num_workers}; give --num-workers 1 or more")


@dataclass(frozen=True)
class Words:
    """What is said in a recording, and the language's English name."""

    text: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class FolderReport:
    """What came of it: (cuts, seconds) of each part, and what was done otherwise than asked."""

    sizes: dict[str, tuple[int, float]]
    notes: list[str]


def prepare_folder(
    config: FolderConfig,
    *,
    group_of: Callable[[str], str] | None = None,
    part_of: Callable[[str], str | None] = lambda path: None,
    listed: tuple[LeftOut, ...] = (),
    words_of: Callable[[Scanned], Words | None] = lambda item: None,
    progress: Progress | None = None,
) -> FolderReport:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` and ``left_out.jsonl``.

    ``group_of(path)`` names what must not be in two parts, by default as ``split_by`` says; ``part_of(path)`` is the part
    that a corpus's own lists give a file; ``listed`` is what those lists name wrongly; ``words_of(recording)`` is what is said in it.
    Raises :class:`FolderError` where nothing can be used.
    """
    walk = walk_folder(config.audio_dir, own=[config.cache_dir])
    left_out = [*walk.left_out, *listed]
    scanned = _scan(config, walk.files, left_out, progress)
    notes: list[str] = []
    groups = group_of or _grouping(config, scanned, notes)
    if not any(item.segments for item in scanned):
        write_left_out(left_out, config.output_dir / "left_out.jsonl")
        counts = f"{len(left_out)} files that cannot be used, listed in {config.output_dir / 'left_out.jsonl'}" if left_out else "no files"
        raise FolderError(
            f"expected recordings of at least {config.min_seconds:g} s in {config.audio_dir}, found {counts}; give another folder"
        )
    parts = _split(config, scanned, groups, part_of, notes)
    write_left_out(sorted(left_out, key=lambda entry: (entry.path, entry.detail)), config.output_dir / "left_out.jsonl")
    _refuse_empty(parts)
    sizes = {}
    for part in PARTS:
        sizes[part] = (len(parts[part]), sum((last - first) / item.sample_rate for item, (first, last) in parts[part]))
        write_cuts(_cuts(parts[part], words_of), config.output_dir / f"cuts_{part}.jsonl.gz")
        if not parts[part]:
            notes.append(f"{part} is empty: there is too little audio for three parts")
    write_notes(notes, config.output_dir)
    return FolderReport(sizes=sizes, notes=notes)


def _scan(config: FolderConfig, files: list[AudioFile], left_out: list[LeftOut], progress: Progress | None) -> list[Scanned]:
    """Usable recordings; one or two short ones are cut finer, and at last into thirds, so that all three parts get some."""
    kept = _scan_once(config, files, config.max_seconds, left_out, progress)
    seconds = sum(item.num_samples / item.sample_rate for item in kept)
    if 0 < len(kept) < 3 and sum(len(item.segments) for item in kept) < 3 * len(kept):
        finer = max(2 * config.min_seconds, min(config.max_seconds, seconds / len(kept) / 4))
        names = {item.path for item in kept}
        left_out[:] = [entry for entry in left_out if entry.path not in names]
        kept = _scan_once(config, [file for file in files if file.path in names], finer, left_out, progress)
        if all(len(item.segments) < 3 for item in kept):
            kept = [replace(item, segments=_thirds(item)) for item in kept]
    return kept


def _thirds(item: Scanned) -> list[Segment]:
    """A recording in three, from its first sound to its last; as it is where that makes pieces that are too short to learn from."""
    if not item.segments:
        return []
    first, last = item.segments[0][0], item.segments[-1][1]
    if last - first < 3 * SHORTEST_PIECE * item.sample_rate:
        return item.segments
    edges = [first + (last - first) * number // 3 for number in range(4)]
    return list(pairwise(edges))


def _refuse_empty(parts: dict[str, list[tuple[Scanned, Segment]]]) -> None:
    """Training needs something to learn from and something to be judged by: better said now than after it."""
    empty = [part for part in ("train", "dev") if not parts[part]]
    if empty:
        cuts = [piece for pieces in parts.values() for piece in pieces]
        seconds = sum((last - first) / item.sample_rate for item, (first, last) in cuts)
        raise FolderError(
            f"expected recordings for train and dev, found {seconds:.2f} s in all and nothing for {' and '.join(empty)}; "
            f"give three recordings or more, or one of {3 * SHORTEST_PIECE:g} s or more"
        )


def _scan_once(
    config: FolderConfig, files: list[AudioFile], max_seconds: float, left_out: list[LeftOut], progress: Progress | None
) -> list[Scanned]:
    settings = ScanSettings(min_seconds=config.min_seconds, max_seconds=max_seconds, cutting=config.cutting)
    kept = []
    for found in scan_folder(
        config.audio_dir,
        files,
        cache=config.cache_dir,
        log=config.scan_log,
        settings=settings,
        num_workers=config.num_workers,
        progress=progress,
    ):
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            kept.append(found)
    kept = without_same_sound(kept, left_out)
    for item in kept:
        left_out.extend(item.left_out)
    return kept


def _grouping(config: FolderConfig, scanned: list[Scanned], notes: list[str]) -> Callable[[str], str]:
    """What ``split_by`` asks for; fewer than three speakers are split by file."""
    if config.split_by is SplitBy.file:
        return str
    speakers = {speaker_of(item.path) or item.path for item in scanned}
    if len(speakers) < 3:
        notes.append(f"split by file: three speakers or more are needed to split by them, found {len(speakers)}")
        return str
    return lambda path: speaker_of(path) or path


def _split(
    config: FolderConfig, scanned: list[Scanned], group_of: Callable[[str], str], part_of: Callable[[str], str | None], notes: list[str]
) -> dict[str, list[tuple[Scanned, Segment]]]:
    parts: dict[str, list[tuple[Scanned, Segment]]] = {part: [] for part in PARTS}
    usable = [item for item in scanned if item.segments]
    groups = {group_of(item.path) for item in usable if part_of(item.path) is None}
    by_lists = {part_of(item.path) for item in usable} - {None}
    if len(groups) < 3 and not by_lists:
        notes.append(
            f"split in time: three recordings or more are needed to split by them, found {len(groups)}; dev and test are pieces of the "
            "recordings that train has, so their figures say nothing about others"
        )
        for item in usable:
            pieces = split_time(item.segments, dev_share=config.dev_share, test_share=config.test_share)
            for part in PARTS:
                parts[part] += [(item, segment) for segment in pieces[part]]
        return parts
    chosen = split_groups(groups, dev_share=config.dev_share, test_share=config.test_share, seed=config.seed)
    for item in usable:
        parts[part_of(item.path) or chosen[group_of(item.path)]] += [(item, segment) for segment in item.segments]
    return parts


def speaker_of(path: str) -> str:
    """The folder at the top that a file is in; empty for a file that is in none."""
    return path.split("/")[0] if "/" in path else ""


def _cuts(pieces: list[tuple[Scanned, Segment]], words_of: Callable[[Scanned], Words | None]) -> Iterator[Cut]:
    for item, segment in pieces:
        yield _cut(item, segment, words_of(item) or Words())


def _cut(item: Scanned, segment: Segment, words: Words) -> Cut:
    name = recording_name(item.path)
    channels = list(range(item.num_channels))
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=channels, source=item.source)],
        sampling_rate=item.sample_rate,
        num_samples=item.num_samples,
        duration=item.num_samples / item.sample_rate,
    )
    start, duration = segment[0] / item.sample_rate, (segment[1] - segment[0]) / item.sample_rate
    identity = f"{name}-{segment[0] * 1000 // item.sample_rate:09d}"
    channel = channels if len(channels) > 1 else channels[0]
    supervision = SupervisionSegment(
        id=identity, recording_id=name, start=0.0, duration=duration, channel=channel, speaker=speaker_of(item.path) or None,
        text=words.text, language=words.language,
    )  # fmt: skip
    kind = MultiCut if len(channels) > 1 else MonoCut
    custom = ends_of_piece(item.segments.index(segment), len(item.segments))  # what is silent before and after is no speech
    cut = kind(
        id=identity, start=start, duration=duration, channel=channel, recording=recording, supervisions=[supervision], custom=custom or None
    )
    validate(cut)
    return cut


def recording_name(path: str) -> str:
    """A readable and unique name: plain letters of the path and a hash of all of it."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", path.rpartition(".")[0]).strip("-")[-60:]
    return f"{plain}-{hashlib.blake2b(path.encode(), digest_size=4).hexdigest()}".lstrip("-")
