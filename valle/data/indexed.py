"""Batches of an epoch from an index of cuts: what a rank's plan names, and nothing else, is read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut
from torch.utils.data import Dataset, Sampler

from valle.data.dataset import Batch, TokenDataset
from valle.data.epoch_plan import Numbers, PlanSettings, RankPlan, plan_epoch
from valle.data.loader import SamplerSettings, load, refuse_too_few
from valle.tokenizing.cut_index import CutIndex


def indexed_batches(
    index: CutIndex,
    dataset: TokenDataset,
    settings: SamplerSettings,
    *,
    epoch: int,
    skip: int,
    rank: int,
    world_size: int,
    num_workers: int,
) -> Iterator[Batch]:
    """As ``epoch_batches``, of a corpus of any size: the batches of one epoch for one rank after the first ``skip``."""
    plan = plan_of(index, settings, longest=dataset.longest_seconds, epoch=epoch, rank=rank, world_size=world_size)
    yield from load(_ByNumber(index, dataset), _Planned(plan, skip), num_workers)


def plan_of(index: CutIndex, settings: SamplerSettings, *, longest: float, epoch: int, rank: int, world_size: int) -> RankPlan:
    """The batches of a rank, by numbers of cuts; raises ``ManifestError`` where there are too few cuts."""
    seconds, kept = np.array(index.seconds), _kept(index, settings)
    refuse_too_few(len(kept), settings, world_size)
    return plan_epoch(
        seconds, np.array(index.shards), kept,
        PlanSettings(
            max_duration=settings.max_duration, longest=longest, window=settings.buffer_size + settings.shuffle_buffer_size,
            drop_last=settings.drop_last, seed=settings.seed,
        ),
        epoch=epoch, rank=rank, world_size=world_size,
    )  # fmt: skip


def choose_indexed(index: CutIndex, settings: SamplerSettings, *, most: int) -> list[Cut]:
    """What ``choose_cuts`` would choose, without parsing other cuts."""
    kept = _kept(index, settings)
    marks = index.marks[kept]
    fewer = np.argpartition(marks, most)[:most] if most < len(kept) else np.arange(len(kept))
    return index.cuts(kept[fewer[np.argsort(marks[fewer])]].tolist())


def _kept(index: CutIndex, settings: SamplerSettings) -> Numbers:
    seconds = index.seconds
    return np.flatnonzero((seconds >= settings.min_cut) & (seconds <= settings.max_cut)).astype(np.int32)


class _Planned(Sampler[list[int]]):
    """The numbers of the cuts of every batch of a plan from one of them on."""

    def __init__(self, plan: RankPlan, skip: int) -> None:
        self.plan, self.skip = plan, skip

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.plan.batches(self.skip))


class _ByNumber(Dataset[Batch]):
    """The batch of some numbers of cuts; parsed where tokens are read, in the workers."""

    def __init__(self, index: CutIndex, dataset: TokenDataset) -> None:
        self.index, self.dataset = index, dataset

    def __getitem__(self, numbers: list[int]) -> Batch:
        return self.dataset[CutSet.from_cuts(self.index.cuts(numbers))]
