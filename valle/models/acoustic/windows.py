"""Requests past the trained length: windows that slide, each of which begins with what it can hold of the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat

import torch
from torch import Tensor

from valle.timeline import Periods


def fine_window(filled: int, *, window: int, periods: Periods, block: int | None) -> tuple[int, int]:
    """The window ``(start, stop)`` that fills frames from ``filled`` on, of a row long enough; it begins at a whole period.

    At most half of a window is context that is filled already. With ``block``, no more than so many frames are filled at once.
    """
    window = periods.window(window)
    start = periods.whole_frames(max(0, filled - window // 2))
    return start, start + window if block is None else min(start + window, filled + block)


def fine_windows(
    num_prompt: int, num_frames: int, *, window: int, periods: Periods, block: int | None = None, first_blocks: Sequence[int] = ()
) -> Iterator[tuple[int, int, int]]:
    """Windows ``(start, first new frame, stop)`` that fill frames ``num_prompt`` to ``num_frames``, by ``fine_window``.

    ``first_blocks`` are the blocks of the first windows, ``block`` that of all others.
    """
    filled, sizes = num_prompt, chain(first_blocks, repeat(block))
    while filled < num_frames:
        start, stop = fine_window(filled, window=window, periods=periods, block=next(sizes))
        yield start, filled, min(num_frames, stop)
        filled = stop


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


def prompted_window(filled: int, num_prompt: int, *, window: int, periods: Periods, block: int) -> PromptedWindow:
    """The window that fills ``block`` frames from ``filled`` on.

    All frames before them are its context while these fit; then a quarter is the prompt's beginning, and a window slides behind it.
    """
    window = periods.window(window)
    if filled + block <= window:
        return PromptedWindow(prompt=0, start=0, first=filled, stop=filled + block)
    kept = _kept(num_prompt, window, periods)
    start, stop = fine_window(filled, window=window - kept, periods=periods, block=block)
    return PromptedWindow(prompt=min(kept, start), start=start, first=filled, stop=stop)


def prompted_windows(
    num_prompt: int, num_frames: int, *, window: int, periods: Periods, block: int | None = None, first_blocks: Sequence[int] = ()
) -> Iterator[PromptedWindow]:
    """Windows that fill frames ``num_prompt`` to ``num_frames``: one where all fit, otherwise a quarter of each is the prompt's beginning.

    What slides behind that quarter is windows of ``fine_windows``. With ``block``, windows are those of ``prompted_window``, the first
    ones with ``first_blocks``.
    """
    if block is not None:
        filled, sizes = num_prompt, chain(first_blocks, repeat(block))
        while filled < num_frames:
            found = prompted_window(filled, num_prompt, window=window, periods=periods, block=next(sizes))
            yield replace(found, stop=min(num_frames, found.stop))
            filled = found.stop
        return
    window = periods.window(window)
    if num_prompt < num_frames <= window:
        yield PromptedWindow(prompt=0, start=0, first=num_prompt, stop=num_frames)
        return
    kept = _kept(num_prompt, window, periods)
    for start, first, stop in fine_windows(num_prompt, num_frames, window=window - kept, periods=periods):
        yield PromptedWindow(prompt=min(kept, start), start=start, first=first, stop=stop)


def _kept(num_prompt: int, window: int, periods: Periods) -> int:
    """Frames of the prompt that stay in sight, whole periods."""
    return min(num_prompt, window // 4) // periods.frames * periods.frames
