"""The parts of a corpus, and why something is in none of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PARTS = ("train", "dev", "test")


class Reason(StrEnum):
    """Why a file, or a piece of one, is not in the corpus."""

    NOT_AUDIO = "not an audio file by its name"
    NOT_A_FILE = "not a regular file"
    EMPTY = "empty"
    UNREADABLE = "cannot be opened"
    CORRUPT = "corrupt"
    SILENT = "silent"
    TOO_SHORT = "too short"
    OUT_OF_RANGE = "samples far beyond full scale"
    BROKEN_LINK = "link to nothing"
    LINK_LOOP = "link back to a folder above"
    DUPLICATE = "same content as another file"
    OWN = "written by this program"
    BAD_NAME = "name is not valid text"
    MISSING = "named in a list, but not there"
    OUTSIDE = "named in a list, but outside the corpus"
    BAD_LINE = "line of a list that cannot be read"


@dataclass(frozen=True)
class LeftOut:
    """A file (relative to the corpus) that was left out; ``detail`` says what was found."""

    path: str
    reason: Reason
    detail: str = ""
