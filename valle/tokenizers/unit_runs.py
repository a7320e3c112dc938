"""Units as runs: each unit once, with how many frames of the unit grid it lasts, and back.

Repeats make up a share of all units that grows with their rate; generative spoken language models leave them out
(GSLM, Lakhotia et al. 2021) and predict durations beside what is left (pGSLM, Kharitonov et al. 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from valle.errors import UserError


class Runs(NamedTuple):
    """Runs of a padded batch; what stands past ``lengths`` is 0."""

    units: Tensor  # (B, R) int64
    durations: Tensor  # (B, R) int64, frames, 1..longest
    lengths: Tensor  # (B,) int64, runs a row
    opening: Tensor  # (B, R) bool: pieces of the row's first unit, before anything else is said


def collapse(units: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """``units (T,)`` -> the unit of every run and its duration in frames, both ``(R,)`` int64.

    A run of more than ``longest`` frames becomes pieces of that many and a rest, so durations are 1 to ``longest`` and
    two neighbours are equal only where the first lasts ``longest``.
    """
    runs = collapse_rows(units[None], torch.tensor([len(units)], device=units.device), longest)
    return runs.units[0], runs.durations[0]


def restore(units: Tensor, durations: Tensor) -> Tensor:
    """The inverse: ``units (R,)`` and ``durations (R,)`` frames -> ``(T,)``.  Raises ``UserError`` for durations below 1."""
    if units.shape != durations.shape or units.ndim != 1:
        raise UserError(f"expected a duration for each of {len(units)} units, found shape {tuple(durations.shape)}")
    if len(durations) and int(durations.min()) < 1:
        raise UserError(f"expected durations of 1 frame or more, found {int(durations.min())}")
    return units.repeat_interleave(durations)


def collapse_rows(units: Tensor, lengths: Tensor, longest: int) -> Runs:
    """``collapse`` of every row of ``units (B, T)`` up to ``lengths (B,)``."""
    if longest < 1:
        raise UserError(f"expected a longest run of 1 frame or more, found {longest}")
    batch, width = units.shape
    place = torch.arange(width, device=units.device).expand(batch, -1)  # (B, T)
    valid = place < lengths[:, None]
    new = torch.ones_like(valid)
    new[:, 1:] = units[:, 1:] != units[:, :-1]
    start = torch.where(new, place, 0).cummax(1).values  # of the frame's run
    begins = valid & ((place - start) % longest == 0)  # a piece
    pieces = begins.sum(1)
    index = (begins.cumsum(1) - 1).clamp(min=0)  # of the frame's piece
    size = int(pieces.max()) if batch else 0
    spare = torch.where(valid, index, size)  # padding goes to a column that is cut off
    durations = units.new_zeros(batch, size + 1).scatter_add(1, spare, valid.to(units.dtype))
    collapsed = units.new_zeros(batch, size + 1).scatter(1, spare, units)
    opening = torch.zeros(batch, size + 1, dtype=torch.bool, device=units.device).scatter(1, spare, valid & (start == 0))
    return Runs(collapsed[:, :size], durations[:, :size], pieces, opening[:, :size])
