"""Marking sound as it comes: a filter whose gains are the pattern's, sample by sample and without looking ahead.

The filters depend on the key alone and not on the sound, so a stream is marked as the whole is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from valle.marks import pattern
from valle.marks.pattern import CELL_DENOMINATOR, CELL_NUMERATOR, CELLS, PUBLIC_KEY, MarkKey, Values

Samples = NDArray[np.float32]  # (T,), about -1..1

RAMP_SECONDS = 0.008  # over which a cell's filter takes over from the one before
FILTER_SECONDS = 0.016
SPECTRUM_SECONDS = 0.064  # of the cepstrum that makes a filter of least delay


class Marking(Protocol):
    """What marks consecutive pieces of one sound."""

    def next(self, wav: Samples) -> Samples:
        """The next samples ``(n,)`` -> as many."""
        ...


class NoMark:
    """Leaves sound as it is."""

    def next(self, wav: Samples) -> Samples:
        """The same array."""
        return wav


class Watermark:
    """Marks one sound at ``sample_rate`` Hz: all that ``next`` returns, end to end, is what it returns for the whole.

    The first sample is the pattern's beginning.  Samples stay within -1..1 where they were.

    >>> wav = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    >>> mark = Watermark(16000)
    >>> pieces = [mark.next(wav[:777]), mark.next(wav[777:])]
    >>> bool(np.allclose(np.concatenate(pieces), Watermark(16000).next(wav), atol=1e-7))
    True
    """

    def __init__(self, sample_rate: int, key: MarkKey = PUBLIC_KEY) -> None:
        self._rate = sample_rate
        self._filters = mark_filters(sample_rate, key)
        self._ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(max(1, round(RAMP_SECONDS * sample_rate))) + 0.5) / (RAMP_SECONDS * sample_rate))
        self._before = np.zeros(self._filters.shape[1] - 1)
        self._place = 0

    def next(self, wav: Samples) -> Samples:
        """The next samples ``(n,)`` of any number, marked."""
        marked = [wav[:0]]
        while len(wav):
            cell = self._place * CELL_DENOMINATOR // (CELL_NUMERATOR * self._rate)
            piece, wav = np.split(wav, [self._start(cell + 1) - self._place])
            marked.append(self._in_cell(piece, cell))
        return np.concatenate(marked)

    def _in_cell(self, wav: Samples, cell: int) -> Samples:
        heard = np.concatenate([self._before, wav])
        self._before = heard[len(wav) :]
        place, self._place = self._place - self._start(cell), self._place + len(wav)
        output = np.convolve(heard, self._filters[cell % CELLS], mode="valid")
        rising = self._ramp[place : place + len(wav)]
        if len(rising):
            earlier = self._filters[(cell - 1) % CELLS]
            last = np.convolve(heard[: len(earlier) - 1 + len(rising)], earlier, mode="valid")
            output[: len(rising)] = rising * output[: len(rising)] + (1 - rising) * last
        return output.clip(-1, 1).astype(np.float32)

    def _start(self, cell: int) -> int:
        """The first sample of a cell, whatever the rate: cells do not drift against the clock."""
        return -(-cell * CELL_NUMERATOR * self._rate // CELL_DENOMINATOR)


@lru_cache(maxsize=8)
def mark_filters(sample_rate: int, key: MarkKey) -> Values:
    """``(CELLS, L)`` impulse responses of least phase, whose gains are those of the pattern's cells.

    From the folded cepstrum of the log gains (Oppenheim and Schafer, chapter 12): causal, and most of it is its first sample.
    """
    size = 2 ** int(np.ceil(np.log2(SPECTRUM_SECONDS * sample_rate)))
    hertz = np.arange(size // 2 + 1) * sample_rate / size
    bands = np.floor((hertz - pattern.LOWEST_HZ) / pattern.BAND_HZ).astype(int)
    inside = (bands >= 0) & (bands < pattern.BANDS)
    gains = np.zeros((CELLS, len(hertz)))
    gains[:, inside] = key.signs()[:, bands[inside]] * pattern.cell_decibels(hertz[inside]) * np.log(10) / 20
    fold = np.zeros(size)
    fold[0] = fold[size // 2] = 1
    fold[1 : size // 2] = 2
    least_phase = np.exp(np.fft.rfft(np.fft.irfft(gains, size) * fold))
    length = round(FILTER_SECONDS * sample_rate)
    fade = np.ones(length)
    fade[-(length // 4) :] = 0.5 + 0.5 * np.cos(np.pi * np.arange(length // 4) / (length // 4))
    filters: Values = np.fft.irfft(least_phase, size)[:, :length] * fade
    return filters
