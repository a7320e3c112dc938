"""A prompt on its way from a socket to the thread that encodes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition

import numpy as np

from valle.audio import Waveform


class StreamCancelled(Exception):
    """Nobody listens any more."""


class PromptFeed(Iterator[Waveform]):
    """Pieces that one thread pushes and another iterates over, at most ``seconds`` of sound at ``sample_rate`` Hz.

    Where the prompt ends does not depend on how it is cut into pieces.  Pieces that wait are handed over as one, so who is late has
    less to do.
    """

    def __init__(self, sample_rate: int, seconds: float) -> None:
        self.sample_rate, self.wanted = sample_rate, round(seconds * sample_rate)
        self.received = 0  # samples
        self._pieces = deque[Waveform]()
        self._changed = Condition()
        self._ended = self._cancelled = False

    @property
    def is_full(self) -> bool:
        return self.received >= self.wanted

    def push(self, wav: Waveform) -> None:
        """The next samples ``(n,)``; what goes beyond the prompt is dropped, and the prompt ends there."""
        wav = wav[: self.wanted - self.received]
        with self._changed:
            if len(wav):
                self._pieces.append(wav)
                self.received += len(wav)
            self._ended = self._ended or self.is_full
            self._changed.notify()

    def end(self) -> None:
        """The prompt ends here."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def cancel(self) -> None:
        """Who waits for a piece gets ``StreamCancelled``."""
        with self._changed:
            self._cancelled = True
            self._pieces.clear()
            self._changed.notify()

    def __next__(self) -> Waveform:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._ended or self._cancelled)
            if self._cancelled:
                raise StreamCancelled
            if not self._pieces:
                raise StopIteration
            pieces = list(self._pieces)
            self._pieces.clear()
        return np.concatenate(pieces)
