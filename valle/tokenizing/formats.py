"""How the tokens of a shard of cuts are stored: HDF5, lhotse Shar, or flat int16.

    hdf5     PART-00000.h5             arrays `N-units` (T_u,) and `N-codes` (T, Q), N counts cuts in the shard
    shar     PART/units.000000.tar     lhotse Shar: `CutSet.from_shar(in_dir="shards/PART")` reads them as a stream
             PART/codes.000000.tar
    memmap   PART-00000.units.int16    numbers alone; they end in one file a part, see ``valle.tokenizing.flat_tokens``
             PART-00000.codes.int16

The cuts lie beside them: PART-00000.jsonl.gz, in Shar PART/cuts.000000.jsonl.gz.  All are int16 and repeat byte for byte.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lhotse import NumpyHdf5Writer
from lhotse.array import Array, TemporalArray
from lhotse.cut import Cut
from lhotse.features.io import close_cached_file_handles
from lhotse.utils import fastcopy
from numpy.typing import NDArray

from valle.corpora.manifests import write_cuts
from valle.files import replacing
from valle.timeline import Timeline
from valle.tokenizing.encode_batches import CutTokens
from valle.tokenizing.flat_tokens import DTYPE, flat_field

Format = Literal["hdf5", "shar", "memmap"]
ENDINGS: dict[str, str] = {"hdf5": ".h5", "shar": ".tar", "memmap": ".int16"}


@dataclass(frozen=True)
class Tokenized:
    """A cut and its tokens."""

    cut: Cut
    tokens: CutTokens

    def values(self, stream: str) -> NDArray[np.int16]:
        values = self.tokens.codes if stream == "codes" else self.tokens.units
        assert values is not None
        return values


@dataclass(frozen=True)
class ShardStore:
    """The files of a part's shards."""

    folder: Path
    part: str
    format: Format
    timeline: Timeline
    label: str  # of the tokenizers, for every cut

    @property
    def steps(self) -> dict[str, float]:
        """Seconds from one token to the next, of each stream."""
        units = {"units": float(self.timeline.units.step)} if self.timeline.units else {}
        return {"codes": float(self.timeline.codes.step), **units}

    def cuts_path(self, number: int) -> Path:
        if self.format == "shar":
            return self.folder / self.part / f"cuts.{number:06d}.jsonl.gz"
        return self.folder / f"{self.part}-{number:05d}.jsonl.gz"

    def stream_path(self, number: int, stream: str) -> Path:
        if self.format == "shar":
            return self.folder / self.part / f"{stream}.{number:06d}.tar"
        middle = "" if self.format == "hdf5" else f".{stream}"
        return self.folder / f"{self.part}-{number:05d}{middle}{ENDINGS[self.format]}"

    def write(self, number: int, items: Sequence[Tokenized]) -> None:
        """Both the tokens and the cuts of a shard; each file is whole or not there."""
        writer = {"hdf5": self._write_hdf5, "shar": self._write_shar, "memmap": self._write_flat}[self.format]
        write_cuts(writer(number, items), self.cuts_path(number))

    def _write_hdf5(self, number: int, items: Sequence[Tokenized]) -> list[Cut]:
        path, cuts = self.stream_path(number, ""), []
        with replacing(path, ending=".tmp.h5") as temporary, NumpyHdf5Writer(temporary) as writer:
            for place, item in enumerate(items):
                fields: dict[str, Any] = {}
                for name, step in self.steps.items():
                    stored: Any = writer.store_array(
                        key=f"{place:05d}-{name}", value=item.values(name), frame_shift=step, temporal_dim=0, start=item.cut.start
                    )
                    fields[name] = fastcopy(stored, array=fastcopy(stored.array, storage_path=str(path)))
                cuts.append(self._with_fields(item, fields))
        close_cached_file_handles()  # lhotse would go on to read the file that lay there before
        return cuts

    def _write_shar(self, number: int, items: Sequence[Tokenized]) -> list[Cut]:
        """As lhotse's ``SharWriter``, but that cuts keep their place in the recording, and that nothing tells the time."""
        for name, step in self.steps.items():
            with replacing(self.stream_path(number, name)) as temporary, tarfile.open(temporary, "w") as archive:
                for item in items:
                    values, packed = item.values(name), io.BytesIO()
                    np.save(packed, values, allow_pickle=False)
                    array = Array(storage_type="shar", storage_path="", storage_key="", shape=list(values.shape))
                    placeholder = TemporalArray(array=array, temporal_dim=0, frame_shift=step, start=item.cut.start)
                    _add(archive, f"{item.cut.id}.npy", packed.getvalue())
                    _add(archive, f"{item.cut.id}.json", (json.dumps(placeholder.to_dict()) + "\n").encode())
        return [self._with_fields(item, {}) for item in items]

    def _write_flat(self, number: int, items: Sequence[Tokenized]) -> list[Cut]:
        fields: list[dict[str, Any]] = [{} for _ in items]
        for name, step in self.steps.items():
            path, offset = self.stream_path(number, name), 0
            with replacing(path) as temporary, temporary.open("wb") as file:
                for item, found in zip(items, fields, strict=True):
                    values = item.values(name)
                    file.write(np.ascontiguousarray(values, DTYPE).tobytes())
                    found[name] = flat_field(path, values.shape, offset=offset, frame_shift=step, start=item.cut.start)
                    offset += values.size
        return [self._with_fields(item, found) for item, found in zip(items, fields, strict=True)]

    def _with_fields(self, item: Tokenized, fields: dict[str, Any]) -> Cut:
        """The cut with its tokens, and with the gain that was applied to its audio where one was: without it, 0 dB."""
        cut, gain_db = item.cut, item.tokens.gain_db
        gain = {} if gain_db is None else {"gain_db": round(gain_db, 3)}
        return fastcopy(cut, custom={**(cut.custom or {}), **fields, **gain, "tokenizers": self.label})


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # whose time is 0
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
