"""Which part of a cut a stage sees: a function of seed, epoch, cut and stage, in whole periods of the timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valle.seeds import draw, draw_bits
from valle.timeline import Timeline


@dataclass(frozen=True)
class Crop:
    """Whole periods ``start`` to ``stop`` of a cut of ``total`` periods."""

    start: int
    stop: int
    total: int
    units_per_period: int
    frames_per_period: int

    @property
    def units(self) -> slice:
        return slice(self.start * self.units_per_period, self.stop * self.units_per_period)

    @property
    def frames(self) -> slice:
        return slice(self.start * self.frames_per_period, self.stop * self.frames_per_period)

    @property
    def holds_start(self) -> bool:
        return self.start == 0

    @property
    def holds_end(self) -> bool:
        return self.stop == self.total


def choose_crop(timeline: Timeline, *, num_periods: int, seconds: float, chance: float) -> Crop:
    """At most ``seconds`` out of ``num_periods``; ``chance`` in 0..1 places it."""
    length = min(num_periods, max(1, timeline.periods_for(seconds)))
    start = int(chance * (num_periods - length + 1))
    return Crop(
        start=start,
        stop=start + length,
        total=num_periods,
        units_per_period=timeline.units_per_period,
        frames_per_period=timeline.frames_per_period,
    )


def place_elsewhere(total: int, *, first: int, stop: int, length: int, chance: float) -> int:
    """Where a segment of ``length`` out of ``total`` begins that leaves ``first`` to ``stop`` out; ``chance`` in 0..1 places it.

    The segment must fit before ``first`` or from ``stop`` on; all places where it does are equally likely.
    """
    before, behind = max(0, first - length + 1), max(0, total - stop - length + 1)
    if before + behind == 0:
        raise ValueError(f"expected room for {length} of {total} beside {first} to {stop}, found none")
    place = int(chance * (before + behind))
    return place if place < before else stop + place - before


@dataclass(frozen=True)
class Span:
    """Both streams of the same time, in whole periods."""

    units: NDArray[np.int64]  # (T_u,), empty without units
    codes: NDArray[np.int64]  # (T, Q)


@dataclass(frozen=True)
class CroppedTokens:
    """What one stage sees of one cut: whole periods of both streams."""

    cut_id: str
    units: NDArray[np.int64]  # (T_u,), empty without units
    codes: NDArray[np.int64]  # (T, Q)
    starts: bool  # holds the utterance's true start
    ends: bool  # holds its true end
    seed: int
    epoch: int
    number: int = 0  # among several crops of the cut for this stage
    whole: Span | None = None  # all of the cut, of which this crop begins at
    first_frame: int = 0
    neighbour: Span | None = None  # another utterance by the same voice, where one was asked for and found

    @property
    def is_validation(self) -> bool:
        """Whether nothing is left out of it at random: epoch 0 holds the fixed crops of validation."""
        return self.epoch == 0

    def chance(self, what: str) -> float:
        """A number in 0..1 that depends on seed, epoch, cut, the crop's number and ``what`` alone, never on batch mates."""
        return draw(self.seed, self.epoch, self.cut_id, numbered(what, self.number))

    def chances(self, what: str, count: int) -> NDArray[np.float64]:
        """Numbers ``(count,)`` in 0..1 of a stream of the crop's own; a longer one begins with the same numbers."""
        bits = draw_bits(self.seed, self.epoch, self.cut_id, numbered(what, self.number))
        return np.random.Generator(np.random.PCG64(bits)).random(count)


def numbered(what: str, number: int) -> str:
    """The name of what is drawn for a cut's crop ``number``, the first of which has the plain name."""
    return f"{what} {number}" if number else what


def pad(rows: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Rows ``(T_b, ...)`` -> ``(B, T, ...)`` int64 with zeros behind, and lengths ``(B,)``."""
    lengths = [len(row) for row in rows]
    padded = np.zeros((len(rows), max(lengths), *rows[0].shape[1:]), np.int64)
    for out, row in zip(padded, rows, strict=True):
        out[: len(row)] = row
    return torch.from_numpy(padded), torch.tensor(lengths)
