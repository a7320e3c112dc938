"""Units of a row that are still being made, for stages that go on from them: asked for one by one, forgotten behind all who read them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from valle.timeline import Periods

FORGOTTEN_AT_ONCE = 256  # units; a buffer is cut no more often than that


class UnitFeed:
    """Units ``(T_u,)`` of one row in whole periods: its prompt's, then those of ``more``, which is asked only for what a reader needs.

    What is left of a period when ``more`` ends is dropped, as of a row that is all there.
    """

    def __init__(self, prompt: Tensor, more: Iterator[Tensor], periods: Periods) -> None:
        self.periods = periods
        self._more = more
        self._units, self._first = prompt, 0  # from unit number ``_first`` on
        self._rest = prompt[:0]  # of a period that is not whole yet
        self._needed: list[int] = []  # the first unit that each reader may still ask for
        self.has_ended = False

    def reader(self, *, reach: int = 0) -> UnitReader:
        """Somebody more for whom units are kept, ``reach`` of them before those that it still needs; all come before one forgets."""
        self._needed.append(0)
        return UnitReader(self, len(self._needed) - 1, reach)

    @property
    def total(self) -> int:
        """Units so far."""
        return self._first + len(self._units)

    @property
    def held(self) -> int:
        """Units that are kept."""
        return len(self._units) + len(self._rest)

    def between(self, start: int, stop: int) -> Tensor:
        """Units number ``start`` to ``stop``, or as many of them as there are before the end."""
        while self.total < stop and not self.has_ended:
            self._pull()
        return self._units[max(0, start - self._first) : max(0, stop - self._first)]

    def _pull(self) -> None:
        piece = next(self._more, None)
        if piece is None:
            self.has_ended, self._rest = True, self._rest[:0]
            return
        rest = torch.cat([self._rest, piece])
        whole = len(rest) // self.periods.units * self.periods.units
        self._units, self._rest = torch.cat([self._units, rest[:whole]]), rest[whole:]

    def forget(self, number: int, before: int) -> None:
        """Reader ``number`` will not ask for units before number ``before``."""
        self._needed[number] = max(self._needed[number], before)
        first = min(self._needed)
        if first - self._first >= FORGOTTEN_AT_ONCE:
            self._units, self._first = self._units[first - self._first :].clone(), first


class UnitReader:
    """One who reads a feed."""

    def __init__(self, feed: UnitFeed, number: int, reach: int) -> None:
        self.feed, self.number, self.reach = feed, number, reach

    def num_frames(self, wanted: int) -> int:
        """Frames under which units lie, of whole periods: ``wanted`` or more, unless the row ends before."""
        periods = self.feed.periods
        self.feed.between(0, -(-wanted // periods.frames) * periods.units)
        return self.feed.total // periods.units * periods.frames

    def between(self, start: int, stop: int) -> Tensor:
        """Units number ``start`` to ``stop``, or as many of them as there are before the end."""
        return self.feed.between(start, stop)

    def of_frames(self, start: int, stop: int) -> Tensor:
        """The units of the periods that hold frames ``start``, which begins one, to ``stop``."""
        units = self.feed.periods.units_of_frames(start, stop)
        return self.feed.between(units.start, units.stop)

    def forget(self, before: int) -> None:
        """It will not ask for units before number ``before``."""
        self.feed.forget(self.number, before - self.reach)
