"""Writing lhotse manifests such that equal content gives equal bytes and a killed program leaves nothing half."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path

from lhotse.cut import Cut


def write_cuts(cuts: Iterable[Cut], path: Path) -> int:
    """Write cuts as ``*.jsonl.gz`` one at a time and return how many there were.

    gzip's time is 0 and its file name empty, so that manifests compare by bytes; the file is written under a
    temporary name and renamed.  ``CutSet.from_jsonl_lazy(path)`` reads it.
    """
    if not path.name.endswith(".jsonl.gz"):
        raise ValueError(f"expected a path that ends in .jsonl.gz, found {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    count = 0
    with temporary.open("wb") as raw:
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
            io.TextIOWrapper(packed, encoding="utf-8") as stream,
        ):
            for cut in cuts:
                stream.write(json.dumps(cut.to_dict(), ensure_ascii=False) + "\n")
                count += 1
    temporary.replace(path)
    return count
