"""Units beside frames: how an acoustic stage hears what is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from valle.decoding.seats import Seats
from valle.models.unit_feed import UnitReader
from valle.timeline import Periods


class UnitWindow(nn.Module):
    """What is said around each frame: the units within ``reach`` of the frame's own, past the row's ends a padding embedding."""

    def __init__(self, *, num_units: int, d_model: int, reach: int, periods: Periods) -> None:
        super().__init__()
        self.num_units, self.reach, self.periods = num_units, reach, periods
        self.embed = nn.Embedding(num_units + 1, d_model // 4)  # the last is padding
        self.project = nn.Linear((2 * reach + 1) * (d_model // 4), d_model)

    def forward(self, units: Tensor, unit_lengths: Tensor, num_frames: int) -> Tensor:
        """``units (B, T_u)`` -> ``(B, num_frames, D)``."""
        return self.around(units, unit_lengths, torch.arange(num_frames, device=units.device))

    def around(self, units: Tensor, unit_lengths: Tensor, frames: Tensor, *, first_unit: int = 0) -> Tensor:
        """What is said around ``frames (T,)``, of ``units (B, T_u)`` from number ``first_unit`` on -> ``(B, T, D)``."""
        return self.project(self.embed(self.near(units, unit_lengths, frames, first_unit=first_unit)).flatten(2))

    def near(self, units: Tensor, unit_lengths: Tensor, frames: Tensor, *, first_unit: int = 0) -> Tensor:
        """The units around ``frames (T,)`` -> ``(B, T, 2 reach + 1)``, ``num_units`` for padding."""
        own = self.periods.unit_of_frame(frames) - first_unit
        index = own[:, None] + torch.arange(-self.reach, self.reach + 1, device=units.device)  # (T, W)
        inside = (index >= 0) & (index < unit_lengths[:, None, None])  # (B, T, W)
        if units.shape[1] == 0:
            return torch.full(inside.shape, self.num_units, device=units.device)
        picked = units[:, index.clamp(0, units.shape[1] - 1)]
        return torch.where(inside, picked, self.num_units)


class Around(Protocol):
    """What is said around the frames of a request's rows, for a stage that decodes them one after another."""

    def of_rows(self, frames: Tensor, seats: Seats) -> Tensor:
        """One frame of each of the rows ``seats``, ``frames (B,)`` -> ``(B, D)``; of rows that have ended, anything."""
        ...

    def of_row(self, row: int, frames: Tensor) -> Tensor:
        """Consecutive ``frames (S,)`` of one row -> ``(S, D)``."""
        ...


class AroundAll:
    """Of units that are all there: vectors are made for the rows that are decoded, all at once where no row waits."""

    def __init__(self, window: UnitWindow, units: Sequence[Tensor], num_frames: int, *, seats: int | None = None) -> None:
        """``seats``: how many rows are decoded at once; all, if None."""
        self.window, self.units, self.num_frames = window, list(units), num_frames
        self.vectors: dict[int, Tensor] = {}  # (num_frames, D) of rows that are decoded, or will be next
        if seats is None or seats >= len(units):
            lengths = torch.tensor([len(row) for row in units], device=units[0].device)
            self.vectors = dict(enumerate(window(pad_sequence(self.units, batch_first=True), lengths, num_frames)))
        self.seats: Seats | None = None  # of the rows that ``table`` holds
        self.table = torch.empty(0)  # (B, num_frames, D)

    def of_rows(self, frames: Tensor, seats: Seats) -> Tensor:
        return self.of_seats(seats)[self.places, frames.clamp(max=self.num_frames - 1)]

    def of_seats(self, seats: Seats) -> Tensor:
        """All frames of these rows ``(B, num_frames, D)``; what is past the last is as the last."""
        if seats is not self.seats:
            self._seat(seats)
        return self.table

    def of_row(self, row: int, frames: Tensor) -> Tensor:
        return self._vectors_of(row)[frames.clamp(max=self.num_frames - 1)]

    def _vectors_of(self, row: int) -> Tensor:
        if row not in self.vectors:
            units = self.units[row]
            self.vectors[row] = self.window(units[None], torch.tensor([len(units)], device=units.device), self.num_frames)[0]
        return self.vectors[row]

    def _seat(self, seats: Seats) -> None:
        """Hold the vectors of these rows, and no others'."""
        if self.seats is None:
            self.table = torch.stack([self._vectors_of(row) for row in seats.rows])
            self.places = torch.arange(len(seats.rows), device=self.table.device)
        else:
            for place, (old, new) in enumerate(zip(self.seats.rows, seats.rows, strict=True)):
                if old != new:
                    self.table[place] = self._vectors_of(new)
        self.seats, self.vectors = seats, dict(zip(seats.rows, self.table, strict=True))


class AroundFed:
    """Of the units of row 0 as they are made; rows beside it, of guidance, have none."""

    def __init__(self, window: UnitWindow, units: UnitReader) -> None:
        self.window, self.units = window, units
        self.last: dict[int, tuple[int, Tensor]] = {}  # by row: a unit, and what is said around the frames above it (1, D)

    def of_rows(self, frames: Tensor, seats: Seats) -> Tensor:
        return torch.cat([self._of_frame(row, frame) for row, frame in enumerate(frames.tolist())])

    def _of_frame(self, row: int, frame: int) -> Tensor:
        """One frame; those above the same unit have the same around them."""
        unit = self.window.periods.unit_of_frame(frame)
        if row not in self.last or self.last[row][0] != unit:
            self.last[row] = unit, self.of_row(row, torch.tensor([frame], device=self.window.embed.weight.device))
        return self.last[row][1]

    def of_row(self, row: int, frames: Tensor) -> Tensor:
        reach, periods = self.window.reach, self.window.periods
        first = max(0, periods.unit_of_frame(int(frames[0])) - reach)
        units = self.units.between(first, periods.unit_of_frame(int(frames[-1])) + reach + 1)
        if row:
            units = units[:0]
        return self.window.around(units[None], units.new_tensor([len(units)]), frames, first_unit=first)[0]
