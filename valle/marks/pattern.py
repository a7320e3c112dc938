"""The pattern of a watermark: which cells of time and frequency are louder and which quieter, drawn from a key.

Spread spectrum on the magnitudes of the short-time spectrum, as in Kirovski and Malvar, "Spread-spectrum watermarking of audio
signals" (2003), section II: many cells change by about a decibel, which nobody hears in any of them, and whoever knows the signs adds
all of them up.  A gain follows the sound by itself: where there is no sound, there is no mark to hear.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from valle.errors import UserError

CELL_NUMERATOR, CELL_DENOMINATOR = 4, 125  # a cell lasts 4/125 s, 32 ms
CELLS = 32  # in time, after which the pattern begins again: 1.024 s
LOWEST_HZ, BAND_HZ, BANDS = 250.0, 125.0, 56  # up to 7250 Hz
EDGES_HZ, DECIBELS = (1500.0, 3600.0), (1.3, 3.4, 2.5)  # by which a cell is louder or quieter; the ear resolves low bands best
LEAST_KEY_BYTES, MOST_KEY_BYTES = 16, 2**20

Values = NDArray[np.float64]


@dataclass(frozen=True)
class MarkKey:
    """What the signs are drawn from.  The public key is everybody's: it tells honest listeners, and hides nothing.

    A key of one's own is never shown: neither it nor a hash of it belongs in a log or a summary.
    """

    secret: bytes = field(default=b"valle: the public key of generated sound, 1", repr=False)

    @property
    def is_public(self) -> bool:
        """Whether it is the key that comes with the program."""
        return self == MarkKey()

    def signs(self) -> Values:
        """``(CELLS, BANDS)``, half of every band +1 and half -1, so that no band is louder over a period."""
        stream = np.frombuffer(hashlib.shake_256(b"watermark 1\0" + self.secret).digest(8 * CELLS * BANDS), "<u8")
        order = stream.reshape(CELLS, BANDS).argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
        signs: Values = np.where(order < CELLS // 2, 1.0, -1.0)
        return signs


PUBLIC_KEY = MarkKey()


def cell_decibels(hertz: Values) -> Values:
    """By how much a cell at these frequencies is louder or quieter, the same shape."""
    decibels: Values = np.asarray(DECIBELS)[np.searchsorted(EDGES_HZ, hertz, side="right")]
    return decibels


def read_key(path: Path | None) -> MarkKey:
    """The key in a file of any content, such as ``head -c 32 /dev/urandom`` writes; without a file the public key."""
    if path is None:
        return PUBLIC_KEY
    if not path.is_file():
        raise UserError(f"expected a file with a key at {path}, found none; make one by: head -c 32 /dev/urandom > {path}")
    size = path.stat().st_size
    if not LEAST_KEY_BYTES <= size <= MOST_KEY_BYTES:
        raise UserError(f"expected a key of {LEAST_KEY_BYTES} bytes to 1 MiB in {path}, found {size} bytes; 32 random bytes are a good key")
    return MarkKey(path.read_bytes())
