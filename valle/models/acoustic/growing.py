"""Frames of a row that are still being drawn, as what fills their other levels looks at them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F


class GrowingFrames:
    """A prompt's codes ``(T, Q)``, then frames ``(n, Q')`` of ``more``, 0 at the levels that these lack; forgotten behind who reads."""

    def __init__(self, prompt: Tensor, more: Iterator[Tensor]) -> None:
        self._codes, self._first = prompt, 0  # from frame number ``_first`` on
        self._more = more

    @property
    def held(self) -> int:
        """Frames that are kept."""
        return len(self._codes)

    def between(self, start: int, stop: int) -> Tensor:
        """Frames number ``start`` to ``stop``, or as many as there are before the end; frames before ``start`` are let go."""
        while self._first + len(self._codes) < stop and (new := next(self._more, None)) is not None:
            self.add(new)
        self._codes, self._first = self._codes[start - self._first :].clone(), start
        return self._codes[: stop - start]

    def add(self, codes: Tensor) -> None:
        """Frames ``(n, Q')`` behind the last."""
        self._codes = torch.cat([self._codes, F.pad(codes, (0, self._codes.shape[1] - codes.shape[1]))])

    def replace(self, start: int, codes: Tensor) -> None:
        """Put ``codes (n, Q)`` in place of frames from number ``start`` on."""
        self._codes[start - self._first : start - self._first + len(codes)] = codes
