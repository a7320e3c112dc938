"""An index of many cuts, so that a process of a training parses its own cuts alone and goes on anywhere at once.

    cuts_train.jsonl        the cuts, one a line, not packed: any line can be read by its place
    cuts_train.index.npy    a row a cut (``ROW``), mapped into memory; the last row marks the end

Stage 4 writes both beside a large train manifest.  The fields of cuts of lhotse Shar point into the archives, where an array
lies as it would in a flat file, so that Shar is read by place as well as in order.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.array import TemporalArray
from lhotse.cut import Cut
from lhotse.utils import fastcopy
from numpy.typing import NDArray

from valle.corpora.manifests import duration_of, id_of, parse_cut, read_cuts
from valle.errors import UserError
from valle.files import replacing
from valle.seeds import draw_bits
from valle.tokenizing.flat_tokens import DTYPE, flat_field

NO_SHARD = -1  # cuts whose tokens lie in one file for all
ROW = np.dtype([("place", "<i8"), ("seconds", "<f8"), ("mark", "<u8"), ("shard", "<i4")])


class CutIndexError(UserError):
    """An index that does not belong to its cuts."""


def mark_of(cut_id: str) -> int:
    """64 bits that stand for an id: they order cuts at random, choose those for validation, and tell whether two ids are one."""
    return draw_bits(0, 0, cut_id, "valid")


@dataclass(frozen=True)
class CutIndex:
    """The cuts of ``folder/cuts_PART.jsonl``, by number; nothing is read until it is asked for."""

    folder: Path
    part: str

    @property
    def lines_path(self) -> Path:
        return self.folder / f"cuts_{self.part}.jsonl"

    @property
    def table_path(self) -> Path:
        return self.folder / f"cuts_{self.part}.index.npy"

    @cached_property
    def _rows(self) -> NDArray[Any]:
        rows: NDArray[Any] = np.load(self.table_path, mmap_mode="r", allow_pickle=False)
        return rows

    def __getstate__(self) -> dict[str, Any]:  # a spawned worker maps the file anew instead of getting a copy
        return {"folder": self.folder, "part": self.part}

    def __len__(self) -> int:
        return len(self._rows) - 1

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Durations of all cuts ``(N,)``."""
        return self._rows["seconds"][:-1]

    @property
    def marks(self) -> NDArray[np.uint64]:
        """``mark_of`` all cuts ``(N,)``."""
        return self._rows["mark"][:-1]

    @property
    def shards(self) -> NDArray[np.int32]:
        """The shard that holds each cut's tokens ``(N,)``, or ``NO_SHARD``."""
        return self._rows["shard"][:-1]

    def cuts(self, numbers: Iterable[int]) -> list[Cut]:
        """Some cuts, by their numbers."""
        found = []
        with self.lines_path.open("rb") as lines:
            for number in numbers:
                start, end = (int(self._rows["place"][place]) for place in (number, number + 1))
                lines.seek(start)
                found.append(parse_cut(lines.read(end - start).decode(), self.lines_path))
        return found

    def marks_among(self, few: Sequence[int]) -> list[int]:
        """Those of a few marks that are a cut's."""
        if not few:
            return []
        sought, here = np.sort(np.array(few, np.uint64)), np.array(self.marks)
        nearest = sought[np.minimum(np.searchsorted(sought, here), len(sought) - 1)]
        found: list[int] = np.unique(nearest[nearest == here]).tolist()
        return found

    def check(self) -> None:
        """Raise ``CutIndexError`` unless the index, the lines and the packed manifest belong together; nothing is read to its end."""
        try:
            rows = self._rows
            fits = rows.dtype == ROW and rows.ndim == 1 and len(rows) > 0 and int(rows["place"][-1]) == self.lines_path.stat().st_size
            fits = fits and int(rows["mark"][-1]) == _fingerprint(self.folder, self.part)
        except (OSError, ValueError, EOFError):
            fits = False
        if not fits:
            raise CutIndexError(
                f"expected {self.table_path.name} and {self.lines_path.name} in {self.folder} to belong to the cuts beside them, found "
                f"that they do not; delete both, or run ./prepare.sh --stage 4"
            )


def index_names(part: str) -> list[str]:
    """The files of an index, in the folder of its cuts."""
    return [f"cuts_{part}.jsonl", f"cuts_{part}.index.npy"]


def find_index(folder: Path, part: str) -> CutIndex | None:
    """The index of a part, checked; None where stage 4 wrote none."""
    index = CutIndex(folder, part)
    if not index.table_path.is_file():
        return None
    index.check()
    return index


def forget_index(folder: Path, part: str) -> None:
    """Delete what an earlier stage 4 wrote; the table first, since it alone says that there is an index."""
    index = CutIndex(folder, part)
    index.table_path.unlink(missing_ok=True)
    index.lines_path.unlink(missing_ok=True)


def write_index(lines: Iterable[tuple[str, int]], folder: Path, part: str) -> CutIndex:
    """Index the lines of a manifest, each with its shard, one at a time; 28 bytes of memory a cut."""
    index, rows, place = CutIndex(folder, part), _Rows(), 0
    with replacing(index.lines_path) as temporary, temporary.open("wb") as stream:
        for line, shard in lines:
            packed = line.rstrip("\n").encode() + b"\n"
            rows.add(place, duration_of(line, index.lines_path), mark_of(id_of(line)), shard)
            stream.write(packed)
            place += len(packed)
    rows.add(place, 0.0, _fingerprint(folder, part), NO_SHARD)
    with replacing(index.table_path) as temporary, temporary.open("wb") as stream:
        np.save(stream, rows.table(), allow_pickle=False)
    return index


class _Rows:
    """Rows in pieces of an array, since a list of numbers takes ten times as much."""

    def __init__(self, piece: int = 2**16) -> None:
        self._pieces, self._size, self._piece = [np.zeros(piece, ROW)], 0, piece

    def add(self, *row: float) -> None:
        if self._size == self._piece:
            self._pieces.append(np.zeros(self._piece, ROW))
            self._size = 0
        self._pieces[-1][self._size] = row
        self._size += 1

    def table(self) -> NDArray[Any]:
        return np.concatenate([*self._pieces[:-1], self._pieces[-1][: self._size]])


def _fingerprint(folder: Path, part: str) -> int:
    """The checksum and the length at the end of the packed manifest; 0 where there is none, as beside Shar."""
    path = folder / f"cuts_{part}.jsonl.gz"
    if not path.is_file():
        return 0
    with path.open("rb") as packed:
        packed.seek(-8, 2)
        return int.from_bytes(packed.read(8), "little")


def shar_lines(cuts_paths: Sequence[Path], streams: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The cuts of Shar's shards as lines, with fields that point into the archives."""
    for number, path in enumerate(cuts_paths):
        archives = [path.with_name(path.name.replace("cuts.", f"{stream}.").replace(".jsonl.gz", ".tar")) for stream in streams]
        for cut, *fields in zip(read_cuts(path), *map(_pointers, archives), strict=True):
            custom = {**(cut.custom or {}), **dict(zip(streams, fields, strict=True))}
            yield json.dumps(fastcopy(cut, custom=custom).to_dict(), ensure_ascii=False), number


def _pointers(path: Path) -> Iterator[TemporalArray]:
    """Where each array of an archive lies, in its order: ``NAME.npy`` and then ``NAME.json``, as ``ShardStore`` writes them."""
    with tarfile.open(path) as archive:
        place = 0
        shape: tuple[int, ...] = (0,)
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            if member.name.endswith(".npy"):
                version = np.lib.format.read_magic(content)
                read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, is_fortran, dtype = read_header(content)
                if is_fortran or dtype != DTYPE:
                    raise CutIndexError(f"expected int16 rows in {member.name} of {path}, found {dtype}; make the tokens anew")
                place = member.offset_data + content.tell()
            else:
                stored = json.loads(content.read())
                offset = place // DTYPE.itemsize
                yield flat_field(path, shape, offset=offset, frame_shift=stored["frame_shift"], start=stored["start"])
