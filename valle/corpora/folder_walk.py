"""Which files of a folder are audio; no content is read but to tell copies apart.  Needs only the standard library."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from valle.corpora.report_reasons import LeftOut, Reason
from valle.errors import UserError

AUDIO_SUFFIXES = frozenset(
    ".wav .wave .bwf .rf64 .w64 .flac .mp3 .mp2 .mpga .ogg .oga .opus .spx .m4a .m4b .aac .aiff .aif .aifc .caf .au .snd .wma .amr .ac3 "
    ".eac3 .dts .ape .wv .tta .tak .mpc .dsf .oma .qcp .voc .sph .shn .ra "
    ".webm .weba .mka .mkv .mp4 .m4v .mov .avi .mpg .mpeg .wmv .asf .flv .3gp .3g2 .ogv .ogx .rm".split()  # films with sound too
)


class FolderError(UserError):
    """A folder that cannot be made into a corpus."""


@dataclass(frozen=True, order=True)
class AudioFile:
    """A file that is audio by its name; ``path`` is relative to the folder, with forward slashes."""

    path: str
    size: int  # bytes
    modified: int  # ns


@dataclass(frozen=True)
class Walk:
    """Everything in a folder, in order of path."""

    files: list[AudioFile]
    left_out: list[LeftOut]


def walk_folder(folder: Path) -> Walk:
    """Look at every file below ``folder``; links are followed, but never round in a circle.

    Of files with the same content, only the first by path is kept, so that none is in two parts.
    """
    if not folder.is_dir():
        raise FolderError(f"expected a folder of audio, found {'a file' if folder.exists() else 'nothing'} at {folder}; check --audio-dir")
    files: list[AudioFile] = []
    left_out: list[LeftOut] = []
    for entry in _walk(folder, "", (_identity(folder),)):
        if isinstance(entry, AudioFile):
            files.append(entry)
        else:
            left_out.append(entry)
    kept, copies = _without_copies(folder, sorted(files))
    return Walk(files=kept, left_out=sorted([*left_out, *copies], key=lambda entry: entry.path))


def fingerprint(folder: Path) -> str:
    """A hash of the names, sizes and times of all audio files; another one means that the folder has changed."""
    digest = hashlib.sha256()
    entries = (entry for entry in _walk(folder, "", (_identity(folder),)) if isinstance(entry, AudioFile))
    for entry in sorted(entries):
        digest.update(f"{entry.path}\0{entry.size}\0{entry.modified}\n".encode())
    return digest.hexdigest()


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[AudioFile | LeftOut]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        yield LeftOut(prefix or ".", Reason.UNREADABLE, error.strerror or "")
        return
    for name in names:
        path = prefix + name
        if not _is_text(name):
            yield LeftOut(path.encode("utf-8", "backslashreplace").decode(), Reason.BAD_NAME, "rename it to text in UTF-8")
            continue
        try:
            found = os.stat(folder / name)
        except FileNotFoundError:
            yield LeftOut(path, Reason.BROKEN_LINK)
            continue
        except OSError as error:
            looped = error.errno == 40  # ELOOP: links that lead to each other
            yield LeftOut(path, Reason.LINK_LOOP if looped else Reason.UNREADABLE, error.strerror or "")
            continue
        if stat.S_ISDIR(found.st_mode):
            identity = (found.st_dev, found.st_ino)
            if identity in above:
                yield LeftOut(path, Reason.LINK_LOOP)
            else:
                yield from _walk(folder / name, f"{path}/", (*above, identity))
        else:
            yield _file(path, found)


def _file(path: str, found: os.stat_result) -> AudioFile | LeftOut:
    if os.path.splitext(path)[1].lower() not in AUDIO_SUFFIXES or path.rpartition("/")[2].startswith("._"):
        return LeftOut(path, Reason.NOT_AUDIO)
    if not stat.S_ISREG(found.st_mode):
        return LeftOut(path, Reason.NOT_A_FILE)
    if found.st_size == 0:
        return LeftOut(path, Reason.EMPTY)
    return AudioFile(path=path, size=found.st_size, modified=found.st_mtime_ns)


def _without_copies(folder: Path, files: list[AudioFile]) -> tuple[list[AudioFile], list[LeftOut]]:
    """Compare content only among files of one size."""
    sizes: dict[int, int] = {}
    for file in files:
        sizes[file.size] = sizes.get(file.size, 0) + 1
    first: dict[str, str] = {}
    kept, copies = [], []
    for file in files:
        digest = _content(folder / file.path) if sizes[file.size] > 1 else None
        if digest is not None and digest in first:
            copies.append(LeftOut(file.path, Reason.DUPLICATE, first[digest]))
            continue
        if digest is not None:
            first[digest] = file.path
        kept.append(file)
    return kept, copies


def _content(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None  # told with its reason when it is read


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
