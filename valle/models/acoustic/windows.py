"""Requests past the trained length: windows that slide, each of which begins with what it can hold of the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from valle.models.acoustic.ar_nar import fine_windows
from valle.timeline import Periods


@dataclass(frozen=True)
class PromptedWindow:
    """Frames 0 to ``prompt``, then ``start`` to ``stop``, of which those from ``first`` on are new.  Both begin at whole periods."""

    prompt: int
    start: int
    first: int
    stop: int

    @property
    def known(self) -> int:
        """Frames at the window's beginning that are filled already."""
        return self.prompt + self.first - self.start

    def of(self, codes: Tensor) -> Tensor:
        """Those of ``codes (T, Q)``."""
        return torch.cat([codes[: self.prompt], codes[self.start : self.stop]])

    def units_of(self, units: Tensor, periods: Periods) -> Tensor:
        """The units ``(T_u,)`` that lie beside them."""
        return torch.cat([units[periods.units_of_frames(0, self.prompt)], units[periods.units_of_frames(self.start, self.stop)]])


def prompted_windows(num_prompt: int, num_frames: int, *, window: int, periods: Periods) -> Iterator[PromptedWindow]:
    """Windows that fill frames ``num_prompt`` to ``num_frames``: one where all fit, otherwise a quarter of each is the prompt's beginning.

    What slides behind that quarter is windows of ``fine_windows``.
    """
    window = periods.window(window)
    if num_prompt < num_frames <= window:
        yield PromptedWindow(prompt=0, start=0, first=num_prompt, stop=num_frames)
        return
    kept = min(num_prompt, window // 4) // periods.frames * periods.frames
    for start, first, stop in fine_windows(num_prompt, num_frames, window=window - kept, periods=periods):
        yield PromptedWindow(prompt=min(kept, start), start=start, first=first, stop=stop)
