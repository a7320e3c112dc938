"""Finding a watermark: how far the cells of a sound are louder and quieter as a key's pattern has them, wherever the pattern begins.

Evidence is the log energy in cells of time and frequency, filtered by what speech does on average (``evidence_filter``: Fisher's linear
discriminant, fitted by ``benchmarks/watermark_filter.py``), and correlated with the pattern's signs at all 128 places where it may
begin.  Where a sound knows nothing of the key, its sum with random signs exceeds z times the root of its energy with a chance of at
most exp(-z^2 / 2), whatever the sound (Hoeffding 1963, theorem 2); all that was looked at counts as tries (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from valle.audio import Waveform
from valle.marks.pattern import BAND_HZ, BANDS, CELLS, LOWEST_HZ, PUBLIC_KEY, MarkKey, Values, cell_decibels

RATE = 16000  # Hz, at which sound is looked at
HOP, WINDOW = 128, 512  # samples; 8 and 32 ms
CELL_FRAMES = 4
PERIOD = CELLS * CELL_FRAMES  # frames, 1.024 s
REACH = 12  # frames on each side that the evidence of one depends on
FIRST_BIN, BAND_BINS = 8, 4  # 250 Hz; 125 Hz
IN_A_CELL = (0.3, 0.8, 1.0, 0.8, 0.3)  # weights of the frames around a cell's centre
LEAST_FRAMES = 30  # of a block that is looked at
LIMIT = 2.5  # standard deviations, beyond which evidence of one frame is no stronger
BAND_SETS = (27, BANDS)  # how many of the lowest bands are looked at: up to 3.6 kHz where a telephone leaves no others, and all
FALSE_ALARMS = 1e-3  # of a file, below which it is called watermarked
ASSET = Path(__file__).parent.parent / "assets" / "marks" / "evidence.npz"

WEIGHTS = cell_decibels(LOWEST_HZ + BAND_HZ * (np.arange(BANDS, dtype=np.float64) + 0.5))  # (BANDS,): as strong as the mark


@dataclass(frozen=True)
class Found:
    """The strongest sign of a watermark; ``chance`` bounds how often a sound without it shows as strong a one."""

    z: float  # correlation by the root of the energy
    chance: float
    seconds: float  # of sound that was looked at

    @property
    def score(self) -> float:
        """Zeros of the chance: 3 is one false alarm in a thousand files of this length; at most 300."""
        return min(300.0, max(0.0, -log(self.chance) / log(10) if self.chance > 0 else 300.0))

    @property
    def is_marked(self) -> bool:
        return self.chance <= FALSE_ALARMS


@dataclass(frozen=True)
class Folded:
    """Evidence of consecutive blocks, added up where the pattern repeats: one sign of the key stands for all that is added."""

    evidence: Values  # (PERIOD, BANDS), weighted

    def __add__(self, other: Folded) -> Folded:
        return Folded(self.evidence + other.evidence)

    def z(self, key: MarkKey) -> float:
        """The largest correlation of all sets of bands and beginnings, by the root of the energy of what is correlated there."""
        smooth = np.zeros_like(self.evidence)
        for shift, weight in zip(range(-2, 3), IN_A_CELL, strict=True):
            smooth += weight * np.roll(self.evidence, shift, axis=0)
        products = np.fft.rfft(smooth, axis=0) * template(key)
        energies = np.square(smooth).reshape(CELLS, CELL_FRAMES, BANDS).sum(0)  # (beginnings within a cell, BANDS)
        best = 0.0
        for bands in BAND_SETS:
            correlations = np.fft.irfft(products[:, :bands].sum(1), PERIOD).reshape(CELLS, CELL_FRAMES).max(0)
            energy = energies[:, :bands].sum(1)
            heard = energy > 0
            best = max(best, *(correlations[heard] / np.sqrt(energy[heard])), 0.0)
        return float(best)


@dataclass
class Search:
    """The search through one sound, block by block, in memory that does not grow: spans of 1, 2, 4, ... blocks, and all of it."""

    key: MarkKey = PUBLIC_KEY
    best: float = 0.0
    spans: int = 0
    _waiting: list[Folded | None] = field(default_factory=list, repr=False)  # the first half of a span of 2^level blocks
    _all: Folded | None = field(default=None, repr=False)

    def take(self, evidence: Values) -> None:
        """The evidence ``(n, BANDS)`` of the next period, n at most ``PERIOD``."""
        span = folded(evidence)
        self._all = span if self._all is None else self._all + span
        self._look(span)
        for level in range(len(self._waiting) + 1):
            if level == len(self._waiting):
                self._waiting.append(None)
            half = self._waiting[level]
            if half is None:
                self._waiting[level] = span
                return
            self._waiting[level], span = None, half + span
            self._look(span)

    def found(self, seconds: float) -> Found:
        """What was found in all that was taken."""
        if self._all is not None:
            self._look(self._all)
        tries = max(1, self.spans) * PERIOD * len(BAND_SETS)
        return Found(z=self.best, chance=min(1.0, tries * float(np.exp(-(self.best**2) / 2))), seconds=seconds)

    def _look(self, span: Folded) -> None:
        self.spans += 1
        self.best = max(self.best, span.z(self.key))


def find_watermark(wav: Waveform, key: MarkKey = PUBLIC_KEY) -> Found:
    """In ``wav (T,)`` at ``RATE`` Hz."""
    return find_in_pieces([wav], key)


def find_in_pieces(pieces: Iterable[Waveform], key: MarkKey = PUBLIC_KEY) -> Found:
    """In consecutive pieces ``(n,)`` of one sound at ``RATE`` Hz."""
    search, heard = Search(key), 0

    def counted() -> Iterator[Waveform]:
        nonlocal heard
        for piece in pieces:
            heard += len(piece)
            yield piece

    for block in evidence_blocks(counted()):
        search.take(block)
    return search.found(heard / RATE)


def evidence_blocks(pieces: Iterable[Waveform]) -> Iterator[Values]:
    """Evidence ``(n, BANDS)`` of every period, in deviations of what speech does; what is left at the end if it is not too short."""
    held, before, first = np.zeros((0, BANDS)), REACH, True  # ``before``: frames that are missing ahead of the sound
    for energies in band_energies(pieces):
        held = np.concatenate([held, energies])
        while len(held) >= PERIOD + 2 * REACH - before:
            yield _evidence(held[: PERIOD + 2 * REACH - before], before, 0)
            held, before, first = held[PERIOD - before :], 0, False
    own = len(held) - (REACH - before)
    if own >= LEAST_FRAMES or (first and own > 0):
        evidence = _evidence(held, before, REACH)
        yield evidence[:PERIOD]
        if len(evidence) - PERIOD >= LEAST_FRAMES:
            yield evidence[PERIOD:]


def band_energies(pieces: Iterable[Waveform]) -> Iterator[Values]:
    """Energy ``(n, BANDS)`` of frames, whose centres lie ``HOP`` samples apart from the first sample on."""
    window = np.hanning(WINDOW + 1)[:-1]
    held = np.zeros(WINDOW // 2)
    for piece in pieces:
        held = np.concatenate([held, piece.astype(np.float64)])
        if len(held) >= WINDOW:
            frames = np.lib.stride_tricks.sliding_window_view(held, WINDOW)[::HOP]
            held = held[len(frames) * HOP :]
            power = np.square(np.abs(np.fft.rfft(frames * window)))[:, FIRST_BIN : FIRST_BIN + BAND_BINS * BANDS]
            yield power.reshape(len(power), BANDS, BAND_BINS).sum(2)


def _evidence(energies: Values, before: int, after: int) -> Values:
    """Of a period's energies; ``before`` and ``after`` frames beyond the ends are like the last there is."""
    return filtered(np.pad(decibels(energies), ((before, after), (0, 0)), mode="edge"))


def decibels(energies: Values) -> Values:
    """Log energies in dB; silence is a number."""
    levels: Values = 10 * np.log10(energies + 1e-10)
    return levels


def filtered(levels: Values) -> Values:
    """Evidence ``(F - 2 REACH, BANDS)`` of log energies ``(F, BANDS)`` in dB."""
    weights = evidence_filter()
    padded = np.pad(levels, ((0, 0), (weights.shape[1] // 2,) * 2), mode="edge")
    evidence = np.zeros((len(levels) - 2 * REACH, BANDS))
    for place in range(weights.shape[0]):
        rows = padded[2 * place : 2 * place + len(evidence)]
        for band in range(weights.shape[1]):
            evidence += weights[place, band] * rows[:, band : band + BANDS]
    return evidence.clip(-LIMIT, LIMIT)


def folded(evidence: Values) -> Folded:
    """Of the evidence ``(n, BANDS)`` of one block, n at most ``PERIOD``."""
    filled = np.zeros((PERIOD, BANDS))
    filled[: len(evidence)] = evidence * WEIGHTS
    return Folded(filled)


@lru_cache(maxsize=8)
def template(key: MarkKey) -> NDArray[np.complex128]:
    """The conjugate spectrum ``(PERIOD // 2 + 1, BANDS)`` of the signs, each at the first frame of its cell."""
    signs = np.zeros((PERIOD, BANDS))
    signs[::CELL_FRAMES] = key.signs()
    spectrum: NDArray[np.complex128] = np.conj(np.fft.rfft(signs, axis=0))
    return spectrum


@lru_cache(maxsize=1)
def evidence_filter() -> Values:
    """``(13, 7)`` weights of every second frame from ``REACH`` before to ``REACH`` after, and of three bands on each side."""
    return np.load(ASSET)["weights"].astype(np.float64)
