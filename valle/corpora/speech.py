"""Synthesised speech: samples, and when each word and phone is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of every synthesised corpus


@dataclass(frozen=True, kw_only=True)
class Span:
    """A word or a phone and where it sounds, in seconds."""

    symbol: str
    start: float
    duration: float


@dataclass(frozen=True, kw_only=True)
class Speech:
    """What was spoken.  ``samples``: (T,) int16 at 16 kHz, (T, C) of a dialogue.  Words and phones are empty where nothing times them.

    ``starts``: where the word at a place of the text begins, in seconds.
    """

    samples: NDArray[np.int16]
    words: tuple[Span, ...] = ()
    phones: tuple[Span, ...] = ()
    starts: Mapping[int, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE
