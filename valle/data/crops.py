"""Which part of a cut a stage sees: a function of seed, epoch, cut and stage, in whole periods of the timeline."""

from __future__ import annotations

from dataclasses import dataclass

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
