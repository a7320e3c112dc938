"""Files that are whole or not there, under names that every disk takes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_NAME = 255  # bytes, on nearly every file system
LONGEST_STEM = 200  # bytes, which leaves room for "-sample12.json" and for what a temporary name adds

_SYSTEM_ERROR = re.compile(r"(?:os error|errno =) (\d+)")  # as safetensors and HDF5 write it


@contextmanager
def replacing(path: Path, *, ending: str = ".tmp") -> Iterator[Path]:
    """A temporary path beside ``path``, for a file or a folder: renamed to ``path`` at the end, removed where writing it fails.

    The system's errors name ``path``, also those that a library reports in words of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name, ending))
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except Exception as error:
        if (found := _SYSTEM_ERROR.search(str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
    finally:
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """All of ``text`` in UTF-8 or nothing; what is no text, such as bytes of an odd file name, is written as its escape."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def keep_whole_lines(path: Path) -> None:
    """Cut off the half line that a killed program left at the end of a file of lines; a file that is not there stays so."""
    if path.is_file():
        with path.open("rb+") as lines:
            content = lines.read()
            if not content.endswith(b"\n"):
                lines.truncate(content.rfind(b"\n") + 1)


def plain_stem(stem: str) -> str:
    """A file name's ``stem`` for a file made of it: as it is, or with a hash where it is too long or no valid text.

    >>> plain_stem("hello")
    'hello'
    >>> len(plain_stem("a" * 251))
    200
    """
    raw = os.fsencode(stem)
    readable = raw.decode("utf-8", "replace").replace("\ufffd", "_")
    if readable == stem and len(raw) <= LONGEST_STEM:
        return stem
    mark = hashlib.blake2b(raw, digest_size=6).hexdigest()
    return readable.encode()[: LONGEST_STEM - len(mark) - 1].decode("utf-8", "ignore") + f"-{mark}"


def shown(path: Path | str) -> str:
    """A path as text that can be printed and stored: bytes that are no UTF-8 become escapes, such as ``caf\\udce9.wav``."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _temporary_name(name: str, ending: str) -> str:
    usual = f".{name}{ending}"
    if len(os.fsencode(usual)) <= LONGEST_NAME:
        return usual
    return f".{hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()}{ending}"
