"""Writing lhotse manifests such that equal content gives equal bytes and a killed program leaves nothing half; reading them with care."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from valle.errors import UserError
from valle.files import replacing


class ManifestFileError(UserError):
    """A manifest that is missing or damaged."""


def write_cuts(cuts: Iterable[Cut], path: Path) -> int:
    """Write cuts as ``*.jsonl.gz`` one at a time and return how many there were.

    gzip's time is 0 and its file name empty, so that manifests compare by bytes; the file is written under a
    temporary name and renamed.  ``CutSet.from_jsonl_lazy(path)`` reads it.
    """
    return write_lines((json.dumps(cut.to_dict(), ensure_ascii=False) for cut in cuts), path)


def write_lines(lines: Iterable[str], path: Path) -> int:
    """``write_cuts`` of cuts that are lines already."""
    if not path.name.endswith(".jsonl.gz"):
        raise ValueError(f"expected a path that ends in .jsonl.gz, found {path}")
    count = 0
    with replacing(path) as temporary, temporary.open("wb") as raw:
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
            io.TextIOWrapper(packed, encoding="utf-8") as stream,
        ):
            for line in lines:
                stream.write(line.rstrip("\n") + "\n")
                count += 1
    return count


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a gzipped manifest, one at a time; raises ``ManifestFileError`` where it is missing or damaged."""
    if not path.is_file():
        raise ManifestFileError(f"expected a manifest at {path}, found nothing there; run ./prepare.sh")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        try:
            yield from lines
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
            raise ManifestFileError(
                f"the manifest {path} cannot be read to its end ({error}); delete it and run ./prepare.sh again"
            ) from error


def read_cuts(path: Path) -> Iterator[Cut]:
    """Cuts of a manifest, one at a time."""
    for line in read_lines(path):
        yield parse_cut(line, path)


def parse_cut(line: str, path: Path) -> Cut:
    """The cut that a line of ``path`` holds."""
    try:
        cut = deserialize_item(json.loads(line))
        if isinstance(cut, Cut) and 0 < cut.duration < math.inf:
            return cut
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise _no_cut(line, path)


def duration_of(line: str, path: Path) -> float:
    """Seconds of the cut that a line of ``path`` holds, without making the cut."""
    try:
        duration = float(json.loads(line)["duration"])
        if 0 < duration < math.inf:
            return duration
    except (ValueError, KeyError, TypeError, IndexError):
        pass
    raise _no_cut(line, path)


def id_of(line: str) -> str:
    """The id of the cut that a line holds, without making the cut; quick for lines as lhotse writes them."""
    match = _PLAIN_ID.match(line)
    return match[1] if match else str(json.loads(line)["id"])


_PLAIN_ID = re.compile(r'\{"id": "([^"\\]*)"')


def _no_cut(line: str, path: Path) -> ManifestFileError:
    shown = line.strip() if len(line) <= 60 else line.strip()[:60] + "..."
    return ManifestFileError(f"expected a cut in every line of the manifest {path}, found {shown!r}; delete it and run ./prepare.sh again")
