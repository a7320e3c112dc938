"""Which files of a folder are audio; no content is read but to tell copies apart.  Needs only the standard library."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from valle.corpora.report_reasons import LeftOut, Reason
from valle.errors import UserError
from valle.files import shown
from valle.outputs import is_recipe_data, own_files

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


def walk_folder(folder: Path, *, own: Sequence[Path] = (), keep_copies: bool = False) -> Walk:
    """Look at every file below ``folder``; links are followed, but never round in a circle.

    Of files with the same content, only the first by path is kept, so that none is in two parts, unless ``keep_copies``.
    What this program wrote is no input: the folders ``own``, the ``data`` of a recipe, and what records of outputs name.
    Raises :class:`FolderError` where ``folder`` itself lies in one of these folders.
    """
    files: list[AudioFile] = []
    left_out: list[LeftOut] = []
    for entry in _entries(folder, own):
        if isinstance(entry, AudioFile):
            files.append(entry)
        else:
            left_out.append(entry)
    kept, copies = (sorted(files), []) if keep_copies else _without_copies(folder, sorted(files))
    return Walk(files=kept, left_out=sorted([*left_out, *copies], key=lambda entry: entry.path))


def fingerprint(folder: Path) -> str:
    """A hash of the names, sizes and times of all audio files; another one means that the folder has changed."""
    digest = hashlib.sha256()
    for entry in sorted(entry for entry in _entries(folder, ()) if isinstance(entry, AudioFile)):
        digest.update(f"{entry.path}\0{entry.size}\0{entry.modified}\n".encode())
    return digest.hexdigest()


def _entries(folder: Path, own: Sequence[Path]) -> Iterator[AudioFile | LeftOut]:
    """Everything below ``folder`` in no order; raises :class:`FolderError` unless it is a folder that may be read."""
    if not folder.is_dir():
        raise FolderError(
            f"expected a folder of audio, found {'a file' if folder.exists() else 'nothing'} at {shown(folder)}; check --audio-dir"
        )
    own_folders = {_identity(path) for path in own if path.is_dir()}
    for above in (folder.resolve(), *folder.resolve().parents):
        if _identity(above) in own_folders or is_recipe_data(above):
            raise FolderError(
                f"expected recordings, found {shown(folder)} in {shown(above)}, where this program keeps its own files; "
                "move the recordings out of there and name their folder"
            )
    yield from _walk(folder, "", (_identity(folder),), own_folders, set())


def _walk(
    folder: Path, prefix: str, above: tuple[tuple[int, int], ...], own_folders: Collection[tuple[int, int]], own: set[str]
) -> Iterator[AudioFile | LeftOut]:
    """``own_folders`` are not entered; ``own`` holds the paths that records in the folders above name."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        yield LeftOut(prefix or ".", Reason.UNREADABLE, error.strerror or "")
        return
    own = own | {prefix + name for name in own_files(folder)}
    for name in names:
        path = prefix + name
        if not _is_text(name):
            yield LeftOut(shown(path), Reason.BAD_NAME, "rename it to text in UTF-8")
            continue
        if path in own:
            yield LeftOut(path, Reason.OWN)
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
            elif identity in own_folders or is_recipe_data(folder / name):
                yield LeftOut(f"{path}/", Reason.OWN)
            else:
                yield from _walk(folder / name, f"{path}/", (*above, identity), own_folders, own)
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
