"""Units beside frames: how an acoustic stage hears what is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

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

    def of_rows(self, frames: Tensor) -> Tensor:
        """One frame of each row, ``frames (B,)`` -> ``(B, D)``; of rows that have ended, anything."""
        ...

    def of_row(self, row: int, frames: Tensor) -> Tensor:
        """Consecutive ``frames (S,)`` of one row -> ``(S, D)``."""
        ...


class AroundAll:
    """Of units that are all there."""

    def __init__(self, window: UnitWindow, units: Sequence[Tensor], num_frames: int) -> None:
        lengths = torch.tensor([len(row) for row in units], device=units[0].device)
        self.vectors = window(pad_sequence(list(units), batch_first=True), lengths, num_frames)  # (B, num_frames, D)
        self.rows = torch.arange(len(units), device=lengths.device)

    def of_rows(self, frames: Tensor) -> Tensor:
        return self.vectors[self.rows, frames.clamp(max=self.vectors.shape[1] - 1)]

    def of_row(self, row: int, frames: Tensor) -> Tensor:
        return self.vectors[row, frames.clamp(max=self.vectors.shape[1] - 1)]


class AroundFed:
    """Of the units of row 0 as they are made; rows beside it, of guidance, have none."""

    def __init__(self, window: UnitWindow, units: UnitReader) -> None:
        self.window, self.units = window, units

    def of_rows(self, frames: Tensor) -> Tensor:
        return torch.cat([self.of_row(row, frames[row : row + 1]) for row in range(len(frames))])

    def of_row(self, row: int, frames: Tensor) -> Tensor:
        reach, periods = self.window.reach, self.window.periods
        first = max(0, periods.unit_of_frame(int(frames[0])) - reach)
        units = self.units.between(first, periods.unit_of_frame(int(frames[-1])) + reach + 1)
        if row:
            units = units[:0]
        return self.window.around(units[None], units.new_tensor([len(units)]), frames, first_unit=first)[0]
