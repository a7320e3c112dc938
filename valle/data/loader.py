"""Batches of an epoch, shuffled and bucketed by lhotse; fixed batches for validation."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice
from typing import Any

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.base import TimeConstraint
from lhotse.utils import fastcopy
from torch.utils.data import Dataset, Sampler

from valle.data.dataset import Batch, TokenDataset
from valle.data.workers import read_batches
from valle.errors import UserError
from valle.seeds import draw
from valle.tokenizing.token_manifests import ManifestError

CUTS_FOR_BUCKETS = 2000  # the first of them, from whose lengths the buckets are made


@dataclass(frozen=True)
class SamplerSettings:
    """How cuts become batches; durations in seconds."""

    max_duration: float
    num_buckets: int
    buffer_size: int
    shuffle_buffer_size: int
    drop_last: bool
    min_cut: float
    max_cut: float
    seed: int


class _Skipping(Sampler[CutSet]):
    """A fresh sampler of one epoch without its first ``skip`` batches.

    Resuming counts what was trained on and starts anew, because a sampler's own state runs ahead of training by
    what the workers have prefetched.
    """

    def __init__(self, sampler: DynamicBucketingSampler, skip: int) -> None:
        self.sampler, self.skip = sampler, skip

    def __iter__(self) -> Iterator[CutSet]:
        return islice(iter(self.sampler), self.skip, None)


def keep_durations(cuts: CutSet, settings: SamplerSettings) -> CutSet:
    """The cuts between the shortest and longest length that are asked for."""
    return cuts.filter(partial(_is_within, settings.min_cut, settings.max_cut))


def _is_within(shortest: float, longest: float, cut: Cut) -> bool:
    return shortest <= cut.duration <= longest


def _as_read(longest: float, cut: Cut) -> Cut:
    """A cut that counts for what is read of it; its tokens are taken by index and stay whole."""
    return fastcopy(cut, duration=longest) if cut.duration > longest else cut


class _Guarded(Dataset[Any]):
    """Hands a user's mistake through a worker as its sentence, where an exception would arrive as a traceback."""

    def __init__(self, dataset: Dataset[Batch]) -> None:
        self.dataset = dataset

    def __getitem__(self, wanted: Any) -> Batch | str:
        try:
            return self.dataset[wanted]
        except UserError as error:
            return str(error)


def epoch_batches(
    cuts: CutSet, dataset: TokenDataset, settings: SamplerSettings, *, epoch: int, skip: int, rank: int, world_size: int, num_workers: int
) -> Iterator[Batch]:
    """The batches of one epoch for one rank: a function of the seed, the epoch and the number of ranks."""
    kept = keep_durations(cuts, settings).map(partial(_as_read, dataset.longest_seconds))
    first = [cut.duration for cut in islice(kept, CUTS_FOR_BUCKETS)]
    refuse_too_few(len(first), settings, world_size)
    sampler = DynamicBucketingSampler(
        kept, constraint=_SpreadTies(max_duration=settings.max_duration), duration_bins=bucket_edges(first, settings),
        buffer_size=settings.buffer_size, shuffle_buffer_size=settings.shuffle_buffer_size, shuffle=True,
        drop_last=settings.drop_last, seed=settings.seed, rank=rank, world_size=world_size,
    )  # fmt: skip
    sampler.set_epoch(epoch)
    yield from load(dataset, _Skipping(sampler, skip), num_workers)


def load(dataset: Dataset[Batch], sampler: Sampler[Any], num_workers: int) -> Iterator[Batch]:
    """The batch of everything that ``sampler`` yields, made by ``num_workers`` processes, or by this one."""
    for batch in read_batches(_Guarded(dataset), sampler, num_workers=num_workers, at_start=_forget_open_files):
        if isinstance(batch, str):
            raise ManifestError(batch)
        yield batch


def refuse_too_few(num_cuts: int, settings: SamplerSettings, world_size: int) -> None:
    """Raise ``ManifestError`` where there are no cuts of the wanted length, or fewer than processes."""
    if not num_cuts:
        raise ManifestError(
            f"expected training cuts of {settings.min_cut:g} to {settings.max_cut:g} s, found none; "
            "change --filter-min-duration or --filter-max-duration, or look at data/report.html"
        )
    if num_cuts < world_size:
        raise ManifestError(f"expected at least one training cut for each of {world_size} processes, found {num_cuts}; lower --world-size")


class _SpreadTies(TimeConstraint):
    """Cuts as long as several edges are shared out among the buckets that end there.

    The sampler takes its buckets by turns.  Were all cuts that are shortened to one length in one bucket, short cuts would be
    gone early in an epoch and the rest of it would hold long ones alone.
    """

    def select_bucket(self, buckets: list[float], example: Cut | None = None, example_len: float | None = None) -> int:
        first: int = super().select_bucket(buckets, example, example_len)
        if example is None:
            return first
        ends_there = bisect_right(buckets, self.measure_length(example)) - first
        return first + int(draw(0, 0, example.id, "bucket") * ends_there)


def bucket_edges(durations: list[float], settings: SamplerSettings) -> list[float]:
    """Where one bucket ends and the next begins, seconds: equal shares of the audio, each at least a batch's worth.

    Where many cuts are of one length, several edges are equal.
    """
    worth = sum(durations) / settings.max_duration  # batches that these cuts fill
    count = max(1, min(settings.num_buckets, int(worth)))
    ordered = sorted(durations)
    until = list(accumulate(ordered))
    inner = [ordered[bisect_left(until, until[-1] * number / count)] for number in range(1, count)]
    return inner or [ordered[-1]]  # a bucket holds what is not longer than its edge


def fixed_batches(cuts: list[Cut], dataset: TokenDataset, *, max_duration: float, rank: int, world_size: int) -> Iterator[Batch]:
    """Every cut once, short beside short, in an order that never changes; ranks take turns."""
    shortened = [_as_read(dataset.longest_seconds, cut) for cut in cuts]
    for index, batch in enumerate(_by_length(shortened, max_duration)):
        if index % world_size == rank:
            yield dataset[CutSet.from_cuts(batch)]


def largest_batches(cuts: CutSet, dataset: TokenDataset, settings: SamplerSettings) -> Iterator[Batch]:
    """A batch as full as any of training, of cuts of each length at which a stage's crops are the most or the longest.

    Durations are read once; of cuts nearest above each crop's length there are most, and all of them whole.
    """
    lengths = sorted({*dataset.settings.seconds.values(), dataset.longest_seconds})
    kept = [_as_read(dataset.longest_seconds, cut) for cut in keep_durations(cuts, settings)]
    for seconds in lengths:
        above = sorted((cut for cut in kept if cut.duration >= seconds), key=lambda cut: (cut.duration, cut.id))
        near = above or heapq.nlargest(len(kept), kept, key=lambda cut: (cut.duration, cut.id))
        if not near:
            continue
        count = max(1, int(settings.max_duration / near[0].duration))
        yield dataset[CutSet.from_cuts(near[:count])]


def choose_cuts(cuts: CutSet, settings: SamplerSettings, *, most: int) -> list[Cut]:
    """At most ``most`` cuts, those whose hash of the id is smallest: the same choice every time, spread over the corpus."""
    kept = keep_durations(cuts, settings)
    chosen = heapq.nsmallest(most, ((draw(0, 0, cut.id, "valid"), cut.id, cut) for cut in kept), key=lambda item: item[:2])
    return [cut for _, _, cut in chosen]


def _by_length(cuts: list[Cut], max_duration: float) -> Iterator[list[Cut]]:
    batch: list[Cut] = []
    for cut in sorted(cuts, key=lambda cut: (cut.duration, cut.id)):
        if batch and (len(batch) + 1) * cut.duration > max_duration:
            yield batch
            batch = []
        batch.append(cut)
    if batch:
        yield batch


def _forget_open_files(worker: int) -> None:
    """A forked worker must not share the parent's HDF5 handles."""
    from lhotse.features.io import close_cached_file_handles

    close_cached_file_handles()
