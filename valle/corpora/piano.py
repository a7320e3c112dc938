"""Solo piano for the variant without units: windows of 5 to 15 s, no piece in two parts.

A piece is a file; in MAESTRO (Hawthorne et al. 2019) the composition that its list names, with its own split; in ATEPP
(Zhang et al. 2022), where many pianists play each piece, the folder that holds a piece's recordings.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

from valle.corpora.folder import FolderConfig, FolderReport, prepare_folder
from valle.corpora.folder_walk import FolderError
from valle.corpora.report_reasons import LeftOut, Reason
from valle.progress import Progress

MAESTRO_PARTS = {"train": "train", "validation": "dev", "test": "test"}


class PieceIs(StrEnum):
    """What all recordings of one piece share."""

    auto = "auto"
    file = "file"
    folder = "folder"


@dataclass(frozen=True, kw_only=True)
class PianoConfig(FolderConfig):
    """As for any folder, with windows of 5 to 15 s, and parts that share no piece."""

    min_seconds: float = field(default=5.0, metadata={"help": "no window is shorter"})
    max_seconds: float = field(default=15.0, metadata={"help": "no window is longer"})
    dev_share: float = field(default=0.1, metadata={"help": "share of pieces for dev"})
    test_share: float = field(default=0.1, metadata={"help": "share of pieces for test"})
    piece: PieceIs = field(default=PieceIs.auto, metadata={"help": "file, folder (all in one folder are one piece), or auto"})


@dataclass(frozen=True)
class Pieces:
    """What a corpus's own list says: the piece and the part of its files, and what it names wrongly."""

    names: dict[str, str]
    parts: dict[str, str]
    left_out: tuple[LeftOut, ...]


def prepare_piano(config: PianoConfig, *, progress: Progress | None = None) -> FolderReport:
    """Write manifests as :func:`valle.corpora.folder.prepare_folder` does, split by piece."""
    if not config.audio_dir.is_dir():
        found = "a file" if config.audio_dir.exists() else "nothing"
        raise FolderError(f"expected a folder of audio, found {found} at {config.audio_dir}; check --audio-dir")
    pieces = read_maestro(config.audio_dir)
    by_folder = config.piece is PieceIs.folder or (config.piece is PieceIs.auto and any(config.audio_dir.glob("ATEPP*.csv")))

    def piece_of(path: str) -> str:
        return pieces.names.get(path) or (str(PurePosixPath(path).parent) if by_folder else path)

    return prepare_folder(config, group_of=piece_of, part_of=pieces.parts.get, listed=pieces.left_out, progress=progress)


def read_maestro(folder: Path) -> Pieces:
    """``maestro-v*.csv`` at the top of the folder; nothing where there is none.

    Names that lead out of the folder, or to nothing, are left out.
    """
    names: dict[str, str] = {}
    parts: dict[str, str] = {}
    left_out = []
    for table in sorted(folder.glob("maestro-v*.csv")):
        with table.open(encoding="utf-8", errors="replace", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines), 2):
                path = row.get("audio_filename") or ""
                split, title = row.get("split") or "", f"{row.get('canonical_composer')}: {row.get('canonical_title')}"
                problem = _problem(folder, path, split)
                if problem is not None:
                    left_out.append(LeftOut(f"{table.name}:{number}", problem, path[:200]))
                    continue
                names[path], parts[path] = title, MAESTRO_PARTS[split]
    return Pieces(names=names, parts=parts, left_out=tuple(left_out))


def _problem(folder: Path, path: str, split: str) -> Reason | None:
    if not path or split not in MAESTRO_PARTS:
        return Reason.BAD_LINE
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return Reason.OUTSIDE
    return None if (folder / path).is_file() else Reason.MISSING
