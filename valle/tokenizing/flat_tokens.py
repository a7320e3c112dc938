"""Streams of a whole part of a corpus in one flat file of int16, and an index: what a language model at scale reads.

    train.units.int16    units of all cuts, one cut after the other, little-endian, no header
    train.codes.int16    codes of all cuts, frame after frame, the codebooks of a frame beside each other
    train.index.npy      int64 (N + 1, 2): where cut i begins, in units and in frames; the last row is the end

The cuts themselves are in ``cuts_train.jsonl.gz`` in the same order, with fields that point into these files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from valle.errors import UserError
from valle.files import replacing

if TYPE_CHECKING:  # whoever reads flat files need not have lhotse
    from lhotse.array import Array, TemporalArray
    from lhotse.cut import Cut

STORAGE = "flat_int16"  # no storage of lhotse's own: it is read here
DTYPE = np.dtype("<i2")


class FlatTokensError(UserError):
    """Flat files that are missing or are not what their index says."""


def flat_field(path: Path, values_shape: tuple[int, ...], *, offset: int, frame_shift: float, start: float) -> TemporalArray:
    """A cut's field that says: ``values_shape`` numbers from the ``offset``-th of ``path`` on."""
    from lhotse.array import Array, TemporalArray

    array = Array(storage_type=STORAGE, storage_path=str(path), storage_key=str(offset), shape=list(values_shape))
    return TemporalArray(array=array, temporal_dim=0, frame_shift=frame_shift, start=start)


def read_flat(array: Array) -> NDArray[np.int16]:
    """What such a field names; raises ``ValueError`` or ``OSError`` where the file does not hold it."""
    offset, count = int(array.storage_key), int(np.prod(array.shape))
    if offset < 0:
        raise ValueError(f"an offset of {offset}")
    values = np.fromfile(array.storage_path, DTYPE, count=count, offset=offset * DTYPE.itemsize)
    if len(values) < count:
        raise ValueError(f"{count} tokens from the {offset}-th on, of which there are {len(values)}")
    return values.reshape(array.shape)


class FlatWriter:
    """Gathers the flat files of shards into those of a part; a context manager, at whose end they and their index are there."""

    def __init__(self, folder: Path, part: str, *, streams: Sequence[str]) -> None:
        self._index_path = folder / f"{part}.index.npy"
        self._paths = {name: folder / f"{part}.{name}.int16" for name in streams}
        self._files: dict[str, BinaryIO] = {}
        self._offsets = dict.fromkeys(streams, 0)  # in numbers
        self._index = [(0, 0)]

    def __enter__(self) -> FlatWriter:
        with ExitStack() as stack:
            for name, path in self._paths.items():
                self._files[name] = stack.enter_context(stack.enter_context(replacing(path)).open("wb"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None:
            with replacing(self._index_path) as temporary, temporary.open("wb") as file:
                np.save(file, np.array(self._index, np.int64).reshape(-1, 2))

    def add(self, cut: Cut) -> Cut:
        """The cut with fields that point into the part's files, where its tokens now are."""
        from lhotse.utils import fastcopy

        fields: dict[str, Any] = dict(cut.custom or {})
        counts = {"units": 0, "codes": 0}
        for name, file in self._files.items():
            stored = fields[name]
            values = read_flat(stored.array)
            file.write(values.tobytes())
            shift, offset = stored.frame_shift, self._offsets[name]
            fields[name] = flat_field(self._paths[name], values.shape, offset=offset, frame_shift=shift, start=stored.start)
            self._offsets[name] += values.size
            counts[name] = len(values)
        units, frames = self._index[-1]
        self._index.append((units + counts["units"], frames + counts["codes"]))
        return fastcopy(cut, custom=fields)


@dataclass(frozen=True)
class FlatTokens:
    """One stream of one part, mapped into memory: ``tokens[i]`` is cut i's ``(T,)`` or ``(T, Q)``, ``flat`` all of them."""

    flat: NDArray[np.int16]  # (N,) or (N, Q)
    starts: NDArray[np.int64]  # (cuts + 1,)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> NDArray[np.int16]:
        if not 0 <= index < len(self):
            raise IndexError(f"cut {index} of {len(self)}")
        return self.flat[self.starts[index] : self.starts[index + 1]]


def open_flat(folder: Path, part: str, stream: str, *, num_codebooks: int = 1) -> FlatTokens:
    """``stream`` is units or codes; nothing is read until it is asked for.  Raises ``FlatTokensError``."""
    path, index = folder / f"{part}.{stream}.int16", folder / f"{part}.index.npy"
    for file in (path, index):
        if not file.is_file():
            raise FlatTokensError(f"expected flat tokens in {file}, found nothing there; run bin/tokenizer.py corpus --format memmap")
    starts = np.load(index)[:, 0 if stream == "units" else 1]
    shape = (int(starts[-1]),) if stream == "units" else (int(starts[-1]), num_codebooks)
    size = path.stat().st_size
    if size != int(np.prod(shape)) * DTYPE.itemsize:
        advice = "run bin/tokenizer.py corpus again" + (", or give the number of codebooks that were stored" if stream == "codes" else "")
        raise FlatTokensError(f"expected {np.prod(shape)} tokens of two bytes in {path}, found {size} bytes; {advice}")
    flat: Any = np.memmap(path, DTYPE, "r", shape=shape) if size else np.zeros(shape, DTYPE)
    return FlatTokens(flat=flat, starts=starts)
