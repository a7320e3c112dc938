"""What is said in recordings, by texts beside them or a table of texts.

A text belongs to a whole recording.  A recording that is cut into several pieces has none, since nothing says which words are in which.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from valle.errors import UserError

TextOf = Callable[[Path], str]  # of a recording's file; empty where there is none
COLUMNS = ("path", "sentence")  # of Common Voice's tables: the recording's name, and what is said in it


class TranscriptError(UserError):
    """Texts that are not there, or that cannot be read."""


def texts_beside(suffix: str) -> TextOf:
    """The text of ``a/b.wav`` is in ``a/b`` with ``suffix``, such as ``.txt``, in UTF-8."""
    if not suffix.startswith(".") or "/" in suffix:
        raise TranscriptError(f"expected the ending of files with texts after --text-suffix, such as .txt, found {suffix!r}")

    def text_of(path: Path) -> str:
        beside = path.with_name(path.stem + suffix)
        try:
            return _one_line(beside.read_text(encoding="utf-8-sig")) if beside.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise TranscriptError(f"expected a text in UTF-8 in {beside}, found none that can be read; save it as UTF-8") from error

    return text_of


def texts_of_table(table: Path) -> TextOf:
    """The text of a recording stands in tab-separated columns ``path`` and ``sentence``, as in Common Voice.

    Recordings go by their file's name, without its folders and its ending.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TranscriptError(f"expected a table in UTF-8 at {table}, found none that can be read; check --text-table") from error
    if not rows or not set(COLUMNS) <= set(rows[0]):
        found = ", ".join(name for name in rows[0] if name) if rows else "no rows"
        raise TranscriptError(f"expected the columns {' and '.join(COLUMNS)}, parted by tabs, in {table}, found {found}; name another")
    texts = {Path(row["path"]).stem: _one_line(row["sentence"] or "") for row in rows if row["path"]}
    return lambda path: texts.get(path.stem, "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
