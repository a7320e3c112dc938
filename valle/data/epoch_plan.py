"""Which cuts make which batch of an epoch, from their durations alone: a function of the seed, the epoch and the number of ranks.

Every process works out the plan of its own rank and how many steps the others make; no cut is parsed, so that an epoch of millions
of cuts begins, or goes on in its middle, within seconds.  Where cuts lie in shards, the shards are shuffled and dealt to the ranks,
so that a rank reads its own alone; otherwise the cuts themselves are.  A rank takes a window of cuts at a time, sorts them by length,
cuts them into batches, and shuffles those; all ranks in one order, so that none waits for another's long cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

SHARDS_A_RANK = 32  # fewer would make ranks too unequal: cuts are dealt instead
DEAL, TIES, ORDER = 1, 2, 3  # streams of random numbers of their own

Numbers = NDArray[np.int32]


@dataclass(frozen=True)
class PlanSettings:
    """How cuts become batches; durations in seconds."""

    max_duration: float
    longest: float  # what a longer cut counts for, as no more of it is read
    window: int  # cuts among which batches are formed
    drop_last: bool
    seed: int


@dataclass(frozen=True)
class RankPlan:
    """One rank's batches of an epoch: arrays of numbers of cuts."""

    seconds: NDArray[np.float64]  # that every cut counts for, by number
    windows: list[Numbers]  # this rank's cuts
    steps: list[int]  # that every rank makes of each window
    settings: PlanSettings
    epoch: int
    rank: int

    @property
    def num_steps(self) -> int:
        """The same on every rank."""
        return sum(self.steps)

    def batches(self, skip: int = 0) -> Iterator[Numbers]:
        """From the batch after the first ``skip`` on."""
        return islice(self._all(), skip, None)

    def _all(self) -> Iterator[Numbers]:
        """What a window has beyond the steps of all ranks goes into the next; in the last, a rank with fewer batches repeats some."""
        seed, left = self.settings.seed, self.windows[0][:0]
        for window, (numbers, steps) in enumerate(zip(self.windows, self.steps, strict=True)):
            run = np.random.default_rng((TIES, seed, self.epoch, self.rank, window)).permutation(np.concatenate([left, numbers]))
            run = run[np.argsort(-self.seconds[run], kind="stable")]
            edges = batch_edges(self.seconds[run], self.settings, is_last=window + 1 == len(self.windows))
            count = min(steps, len(edges) - 1)
            order = np.random.default_rng((ORDER, seed, self.epoch, window)).permutation(steps)
            for batch in order * count // max(steps, 1):  # from long to short, every rank is at the same place
                yield run[edges[batch] : edges[batch + 1]]
            left = run[edges[count] :]


def plan_epoch(
    seconds: NDArray[np.float64],
    shards: NDArray[np.int32],
    kept: Numbers,
    settings: PlanSettings,
    *,
    epoch: int,
    rank: int,
    world_size: int,
) -> RankPlan:
    """The plan of one rank over the ``kept`` of all cuts, whose ``seconds (N,)`` and ``shards (N,)`` are given."""
    seconds = np.minimum(seconds, settings.longest)
    shares = deal(kept, shards[kept], world_size, np.random.default_rng((DEAL, settings.seed, epoch)))
    num_windows = max(1, min(map(len, shares)) // settings.window)
    windows = [np.array_split(share, num_windows) for share in shares]
    steps = count_steps([[seconds[numbers] for numbers in of_rank] for of_rank in windows], settings)
    return RankPlan(seconds=seconds, windows=windows[rank], steps=steps, settings=settings, epoch=epoch, rank=rank)


def count_steps(durations: list[list[NDArray[np.float64]]], settings: PlanSettings) -> list[int]:
    """How many steps all ranks make of each of their windows, whose ``durations`` are given by rank."""
    steps: list[int] = []
    lefts = [of_rank[0][:0] for of_rank in durations]
    for window in range(len(durations[0])):
        is_last = window + 1 == len(durations[0])
        runs = [np.sort(np.concatenate([left, of_rank[window]]))[::-1] for left, of_rank in zip(lefts, durations, strict=True)]
        edges = [batch_edges(run, settings, is_last=is_last) for run in runs]
        counts = [len(of_rank) - 1 for of_rank in edges]
        steps.append(max(counts) if is_last and not settings.drop_last else min(counts))
        if not is_last:
            lefts = [run[of_rank[steps[-1]] :] for run, of_rank in zip(runs, edges, strict=True)]
    return steps


def deal(kept: Numbers, shards: NDArray[np.int32], world_size: int, rng: np.random.Generator) -> list[Numbers]:
    """Every rank's share of the cuts, shuffled: of whole shards where there are many."""
    names, shard = np.unique(shards, return_inverse=True)
    if len(names) < SHARDS_A_RANK * world_size:
        order = rng.permutation(kept)
        return [order[rank::world_size] for rank in range(world_size)]
    place = rng.permutation(len(names))[shard]  # of the shard of each cut
    order = np.argsort((place % world_size).astype(np.int64) * len(names) + place, kind="stable")
    ends = np.cumsum(np.bincount(place % world_size, minlength=world_size))
    return np.split(kept[order], ends[:-1])


def batch_edges(durations: NDArray[np.float64], settings: PlanSettings, *, is_last: bool) -> list[int]:
    """Where batches begin and end among cuts from long to short; one that is not full is left out, unless it is the last and wanted."""
    edges = [0]
    while edges[-1] < len(durations):
        size = max(1, int(settings.max_duration / durations[edges[-1]] + 1e-9))
        edges.append(edges[-1] + size)
    if edges[-1] > len(durations):
        edges.pop()
        if is_last and not settings.drop_last:
            edges.append(len(durations))
    return edges
