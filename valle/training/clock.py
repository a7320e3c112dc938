"""The one clock of a run: what share of it is done, by steps or minutes, as it is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable

from valle.training.distributed import World
from valle.training.options import LoopOptions


class Clock:
    """Counts a run's seconds over all its processes' lives, and says the same on every rank."""

    def __init__(self, options: LoopOptions, world: World, *, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        """``seconds`` are those of the run until now; ``now`` says the time, or the time of this process alone."""
        self.options, self.world, self.now = options, world, now
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        """What happened since the last time does not count."""
        self.started = self.now() - seconds

    def seconds(self) -> float:
        """Of the run until now."""
        return self.now() - self.started

    def share_done(self, step: int) -> float:
        """0..1 and more of ``max_steps`` or ``max_minutes``, whichever is nearer its end; 0 without either."""
        options = self.options
        by_steps = step / options.max_steps if options.max_steps else 0.0
        if not options.max_minutes:
            return by_steps
        share: float = self.world.broadcast(max(by_steps, self.seconds() / (60 * options.max_minutes)))
        return share

    def is_over(self, step: int) -> bool:
        """Whether ``max_steps`` or ``max_minutes`` are reached."""
        options = self.options
        over = bool(options.max_steps) and step >= options.max_steps
        if options.max_minutes:
            over = over or bool(self.world.broadcast(self.seconds() >= 60 * options.max_minutes))
        return over
