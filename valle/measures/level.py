"""How loud speech is while somebody speaks, and the gain that brings it to one level.

The active speech level is that of ITU-T P.56 in spirit: power over the time that is active only, where active is what lies no
more than a margin below the active level itself, so that pauses do not make a speaker quieter.  Nothing here is an absolute
threshold: sound multiplied by a factor has its level changed by exactly that factor, in dB.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from math import log10
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Level = Literal["speech", "none"]  # whether audio is brought to TARGET_DB before it is tokenised

TARGET_DB = -24.0  # the median active level of LibriSpeech's utterances is -24.4 dB, that of the synthetic speech much the same
GAIN_LIMIT_DB = 70.0  # what would need more is silence, or read wrongly
FRAME_SECONDS = 0.02
HANGOVER_SECONDS = 0.2  # a gap between two active frames that is no longer than this is active too, as in P.56
MARGIN_DB = 15.9  # of P.56: frames further below the active level are pauses
CONTRAST_DB = 10.0  # by which live activity stands out of the quietest
HOLD_SECONDS, HOLD_LIMIT_DB = 0.5, 6.0
HOLD_MEMORY_SECONDS = 60.0  # of what was generated, by which its level is judged: so hours take no more memory or time than a minute
MIN_FRAMES = 5  # active ones, below which nothing is said of the level


def frame_powers(wav: Samples, sample_rate: int) -> NDArray[np.float64]:
    """Power ``(F,)`` of every whole 20 ms of ``wav (T,)``, 1.0 is full scale; a constant offset of a frame is left out."""
    size = _frame_size(sample_rate)
    frames = wav[: len(wav) // size * size].reshape(-1, size)
    powers: NDArray[np.float64] = frames.var(1, dtype=np.float64)
    return powers


def active_power(powers: NDArray[np.float64]) -> float:
    """Mean power over the frames that are active; 0.0 where there is no sound.

    The least fixed point from above: the mean over what lies within the margin of the mean so far, which only rises.
    """
    active = powers > 0
    mean = float(powers[active].mean()) if active.any() else 0.0
    while mean > 0:
        now = _with_hangover(powers >= mean / 10 ** (MARGIN_DB / 10))
        louder = float(powers[now].mean())
        if louder <= mean * (1 + 1e-9):
            break
        mean = louder
    return mean


def active_level(wav: Samples, sample_rate: int) -> float | None:
    """Active speech level of ``wav (T,)`` in dB of full scale (a square wave of +-1 is 0 dB); None where there is no sound in it."""
    return _level_of(frame_powers(wav, sample_rate))


def speech_gain_db(wav: Samples, sample_rate: int) -> float:
    """The gain in dB that brings ``wav (T,)`` to ``TARGET_DB``, within the limit; 0.0 for silence.

    One number for all of the sound, and no range of levels is left as it is: so sound that was multiplied by a factor is the
    same sound once its gain is applied.
    """
    level = active_level(wav, sample_rate)
    return 0.0 if level is None else _gain_db(10 ** (level / 10))


def with_gain(wav: Samples, gain_db: float) -> Samples:
    """``wav (T,)`` louder by ``gain_db``; at 0 dB the same array."""
    return wav if gain_db == 0 else (wav * 10 ** (gain_db / 20)).astype(np.float32)


def hold_level(wav: Samples, sample_rate: int, level_db: float) -> Samples:
    """``wav (T,)`` with its active level held near ``level_db``, for sound that a model drew and that drifts by some dB.

    Every half second the level of what was heard in the last minute decides the gain that the next half second goes to,
    ``HOLD_LIMIT_DB`` at most. Nothing depends on what comes later, so it can be done as sound is generated.
    """
    return LevelHold(sample_rate, level_db).next(wav)


class LevelHold:
    """``hold_level`` of sound that comes in pieces: what ``next`` returns, end to end, is what it returns of the whole."""

    def __init__(self, sample_rate: int, level_db: float) -> None:
        self.sample_rate, self.level_db = sample_rate, level_db
        self._size = max(1, round(HOLD_SECONDS * sample_rate))
        self._gains = (0.0, 0.0)  # at the beginning of this step and of the next one; of the first two, before which too little was heard
        self._place = 0  # in this step
        self._rest = np.zeros(0, np.float32)  # of a frame that is not whole
        self._powers = deque[float](maxlen=round(HOLD_MEMORY_SECONDS / FRAME_SECONDS))

    def next(self, wav: Samples) -> Samples:
        """The next samples ``(n,)``, of any number, at the level that they are held at."""
        held = [wav[:0]]
        while len(wav):
            if self._place == self._size:
                self._gains, self._place = (self._gains[1], self._gain()), 0
            piece, wav = np.split(wav, [self._size - self._place])
            curve = np.interp(self._place + np.arange(len(piece)), [0, self._size], self._gains)
            held.append((piece * 10 ** (curve / 20)).astype(np.float32))
            self._hear(piece)
        return np.concatenate(held)

    def _hear(self, piece: Samples) -> None:
        heard = np.concatenate([self._rest, piece])
        powers = frame_powers(heard, self.sample_rate)
        self._rest = heard[len(powers) * _frame_size(self.sample_rate) :]
        self._powers.extend(powers.tolist())
        self._place += len(piece)

    def _gain(self) -> float:
        level = _level_of(np.array(self._powers))
        return 0.0 if level is None else float(np.clip(self.level_db - level, -HOLD_LIMIT_DB, HOLD_LIMIT_DB))


class LiveGain:
    """The gain of sound that is still coming in: fixed after the first second of activity, and not moved after that.

    Activity is what stands out of the quietest that was heard, so that the noise of a room before somebody speaks decides
    nothing; sound without any contrast is taken after ``longest_wait`` seconds.

    >>> live = LiveGain(16000)
    >>> tone = np.sin(np.arange(16000, dtype=np.float32))
    >>> live.hear(0.001 * tone), round(live.hear(np.tile(tone, 2)))
    (None, -21)
    """

    def __init__(self, sample_rate: int, *, active_seconds: float = 1.0, longest_wait: float = 5.0) -> None:
        self.sample_rate = sample_rate
        self._wanted, self._longest = (round(seconds / FRAME_SECONDS) for seconds in (active_seconds, longest_wait))
        self.gain_db: float | None = None  # None until it is fixed
        self._rest = np.zeros(0, np.float32)
        self._powers: list[float] = []  # of frames that are not digital silence

    def hear(self, piece: Samples) -> float | None:
        """Take the next samples ``(n,)``, of any number; the gain in dB, or None while too little was heard."""
        if self.gain_db is None:
            heard = np.concatenate([self._rest, piece])
            powers = frame_powers(heard, self.sample_rate)
            self._rest = heard[len(powers) * _frame_size(self.sample_rate) :]
            for power in powers[powers > 0]:  # one by one, so that it does not matter how the sound comes in pieces
                self._powers.append(float(power))
                if self._heard_enough():
                    self.gain_db = _gain_db(active_power(np.array(self._powers)))
                    break
        return self.gain_db

    def _heard_enough(self) -> bool:
        powers = np.array(self._powers)
        active = powers >= np.percentile(powers, 5) * 10 ** (CONTRAST_DB / 10)
        return int(active.sum()) >= self._wanted or len(powers) >= self._longest


def _with_hangover(active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Active frames, and those in gaps of at most the hangover between two of them."""
    places = np.flatnonzero(active)
    filled = active.copy()
    for first, second in pairwise(places):
        if 1 < second - first <= round(HANGOVER_SECONDS / FRAME_SECONDS):
            filled[first:second] = True
    return filled


def _level_of(powers: NDArray[np.float64]) -> float | None:
    power = active_power(powers)
    return 10 * log10(power) if power > 0 and (powers > 0).sum() >= MIN_FRAMES else None


def _gain_db(power: float) -> float:
    return float(np.clip(TARGET_DB - 10 * log10(power), -GAIN_LIMIT_DB, GAIN_LIMIT_DB))


def _frame_size(sample_rate: int) -> int:
    return max(1, round(FRAME_SECONDS * sample_rate))
