"""Which files a program that is given files and folders reads, and what the file made of each is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from valle.corpora.folder_walk import walk_folder
from valle.corpora.report_reasons import LeftOut, Reason
from valle.errors import UserError
from valle.files import plain_stem, shown
from valle.outputs import Outputs, claim_outputs


class TokenFileError(UserError):
    """Audio or tokens that cannot be encoded or decoded as is asked."""


@dataclass(frozen=True)
class FoundFile:
    """A file to read; ``name`` is that of its output, without an ending; ``is_given`` itself, not in a folder that is given."""

    path: Path
    name: str
    is_given: bool


@dataclass(frozen=True)
class Found:
    """Files in order, and a line for each file of a folder that is left out although its name is one of audio."""

    files: list[FoundFile]
    left_out: list[str]


def find_audio(given: Sequence[Path]) -> Found:
    """Files as they are given, and those of folders by the rules of :func:`valle.corpora.folder_walk.walk_folder`.

    Copies are kept: each file has its own output.  Raises :class:`TokenFileError` where there is nothing to read.
    """
    left_out: list[str] = []
    files: dict[Path, FoundFile] = {}
    for one in given:
        for file in _audio_of(one, left_out):
            files.setdefault(file.path, file)
    return Found(list(files.values()), left_out)


def find_codes(given: Sequence[Path]) -> list[FoundFile]:
    """Files ``*.npy`` as they are given, and those of folders."""
    files: dict[Path, FoundFile] = {}
    for one in given:
        paths = sorted(path for path in one.rglob("*.npy") if path.is_file()) if one.is_dir() else []
        if one.is_dir() and not paths:
            raise TokenFileError(f"expected files of codes in {shown(one)}, found none; name another folder")
        found = [FoundFile(path, _name(path.relative_to(one).as_posix()), False) for path in paths] if paths else [_given(one, "codes")]
        for file in found:
            files.setdefault(file.path, file)
    return list(files.values())


def claim_made(
    files: Sequence[FoundFile], output_dir: Path, *, endings: Sequence[str], program: str, also_read: Sequence[Path] = ()
) -> Outputs:
    """Refuse, before any work, two files of one output, and an output that is an input or somebody else's file."""
    taken: dict[str, Path] = {}
    for file in files:
        if (other := taken.setdefault(file.name, file.path)) != file.path:
            raise TokenFileError(
                f"expected files of different names, found {shown(other)} and {shown(file.path)}, which would both become "
                f"{file.name}{endings[0]}; encode or decode them one by one, or put them into a folder and name that"
            )
    names = [f"{file.name}{ending}" for file in files for ending in endings]
    return claim_outputs(output_dir, names, program=program, inputs=[*(file.path for file in files), *also_read])


def _audio_of(given: Path, left_out: list[str]) -> Iterator[FoundFile]:
    if not given.is_dir():
        yield _given(given, "audio")
        return
    walk = walk_folder(given, keep_copies=True)
    lines = [_line(given, entry) for entry in walk.left_out if entry.reason is not Reason.NOT_AUDIO]
    if not walk.files:
        why = f" but {lines[0]}" if lines else ""
        raise TokenFileError(f"expected files of audio in {shown(given)}, found none{why}; name another folder")
    left_out += lines
    for file in walk.files:
        yield FoundFile(given / file.path, _name(file.path), False)


def _given(path: Path, what: str) -> FoundFile:
    if not path.is_file():
        raise TokenFileError(f"expected a file of {what} at {shown(path)}, found nothing there; check the name")
    return FoundFile(path, plain_stem(path.stem), True)


def _name(relative: str) -> str:
    """Where a file of a folder keeps its place: its own path with a name that is short enough."""
    path = PurePosixPath(relative)
    return (path.parent / plain_stem(path.stem)).as_posix()


def _line(folder: Path, entry: LeftOut) -> str:
    return f"{shown(folder)}/{entry.path}: {entry.reason}" + (f" ({entry.detail})" if entry.detail else "")
