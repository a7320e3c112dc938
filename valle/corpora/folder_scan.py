"""Decode every file of a folder once, in parallel, and remember what was found, so that a killed scan goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from valle.corpora.folder_decode import BadAudioError, Levels, measure_levels, seekable_source
from valle.corpora.folder_segments import Cutting, Segment, is_silent, segments_of
from valle.corpora.folder_walk import AudioFile
from valle.corpora.report_reasons import LeftOut, Reason
from valle.files import plain_stem
from valle.progress import Progress

SCAN_VERSION = 2  # raise it with every change of what a scan finds



@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """How recordings are cut."""

    min_seconds: float
    max_seconds: float
    cutting: Cutting


@dataclass(frozen=True)
class Scanned:
    """A usable recording: ``source`` is the file to read, ``segments`` its audible pieces in samples."""

    path: str
    source: str
    sample_rate: int
    num_channels: int
    num_samples: int
    content: str  # the same for the same sound, whatever file format holds it
    segments: list[Segment]
    left_out: list[LeftOut]  # silent pieces


def scan_file(folder: Path, file: AudioFile, cache: Path, settings: ScanSettings) -> Scanned | LeftOut:
    """Decode one file and cut it, or say why not."""
    try:
        source = seekable_source(folder / file.path, cache / cached_name(file))
        levels = measure_levels(source)
    except BadAudioError as error:
        return LeftOut(file.path, error.reason, error.detail)
    if levels.seconds < settings.min_seconds:
        return LeftOut(file.path, Reason.TOO_SHORT, f"{levels.seconds:.2f} s, less than {settings.min_seconds:g} s")
    if is_silent(levels, (0, levels.num_samples)):
        return LeftOut(file.path, Reason.SILENT, f"{levels.seconds:.2f} s, nothing above -60 dB")
    segments = segments_of(levels, min_seconds=settings.min_seconds, max_seconds=settings.max_seconds, cutting=settings.cutting)
    silent = [segment for segment in segments if is_silent(levels, segment)]
    return Scanned(
        path=file.path,
        source=str(source.absolute()),
        sample_rate=levels.sample_rate,
        num_channels=levels.num_channels,
        num_samples=levels.num_samples,
        content=_content(levels),
        segments=[segment for segment in segments if segment not in silent],
        left_out=[
            LeftOut(file.path, Reason.SILENT, "from {:.2f} to {:.2f} s".format(*_seconds(segment, levels.sample_rate)))
            for segment in silent
        ],
    )


def cached_name(file: AudioFile) -> str:
    """Where in the cache a file's copy lies: another place when the file changes, and never a name too long for the disk."""
    path = PurePosixPath(file.path)
    return (path.parent / f"{plain_stem(f'{path.name}-{file.size:x}-{file.modified:x}')}.flac").as_posix()


def without_same_sound(scanned: list[Scanned], left_out: list[LeftOut]) -> list[Scanned]:
    """The first file of each sound; the others go into ``left_out``, since one could be in train and another in test."""
    first: dict[str, str] = {}
    kept = []
    for item in scanned:
        if (found := first.setdefault(item.content, item.path)) == item.path:
            kept.append(item)
        else:
            left_out.append(LeftOut(item.path, Reason.DUPLICATE, f"the sound of {found}"))
    return kept


def scan_folder(
    folder: Path,
    files: list[AudioFile],
    *,
    cache: Path,
    log: Path,
    settings: ScanSettings,
    num_workers: int,
    progress: Progress | None = None,
) -> Iterator[Scanned | LeftOut]:
    """What each file holds, in the files' order.

    ``log`` keeps a line a file; a file whose name, size and time stand there with the same settings is not read again.
    ``progress(files_done, files_wanted)`` is called after each.
    """
    known = _read_log(log)
    with _append_to(log) as lines, ThreadPoolExecutor(num_workers) as pool:

        def work(file: AudioFile) -> tuple[str, Scanned | LeftOut, bool]:
            key = _key(folder, file, settings)
            if (found := known.get(key)) is not None and (isinstance(found, LeftOut) or Path(found.source).exists()):
                return key, found, True
            return key, scan_file(folder, file, cache, settings), False

        for done, (key, found, was_known) in enumerate(pool.map(work, files), 1):
            if not was_known:
                kind = "left_out" if isinstance(found, LeftOut) else "scanned"
                lines.write(json.dumps({"key": key, kind: asdict(found)}, ensure_ascii=False) + "\n")
                lines.flush()
            if progress:
                progress(done, len(files))
            yield found


def _content(levels: Levels) -> str:
    """By the power of every 20 ms, which no two recordings share."""
    size = f"{levels.sample_rate} {levels.num_samples} ".encode()
    return hashlib.blake2b(size + levels.power.tobytes(), digest_size=16).hexdigest()


def _seconds(segment: Segment, sample_rate: int) -> tuple[float, float]:
    return segment[0] / sample_rate, segment[1] / sample_rate


def _key(folder: Path, file: AudioFile, settings: ScanSettings) -> str:
    values = [SCAN_VERSION, str(folder.resolve()), asdict(file), asdict(settings)]
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()


def _read_log(path: Path) -> dict[str, Scanned | LeftOut]:
    """Lines of earlier scans; one that a kill cut short is skipped."""
    known: dict[str, Scanned | LeftOut] = {}
    if not path.exists():
        return known
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                values = json.loads(line)
                known[values["key"]] = _left_out(values["left_out"]) if "left_out" in values else _scanned(values["scanned"])
            except (ValueError, KeyError, TypeError):
                continue
    return known


def _left_out(values: dict[str, str]) -> LeftOut:
    return LeftOut(values["path"], Reason(values["reason"]), values["detail"])


def _scanned(values: dict) -> Scanned:
    segments = [(int(first), int(last)) for first, last in values.pop("segments")]
    return Scanned(**{**values, "segments": segments, "left_out": [_left_out(entry) for entry in values["left_out"]]})


@contextmanager
def _append_to(path: Path) -> Iterator[TextIO]:
    """The log, open at the start of a new line even where a kill left half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_cut_short = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as lines:
        if is_cut_short:
            lines.write("\n")
        yield lines
