"""Batches of an epoch: within their size, in an order that (seed, epoch) decides, shared out among ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.utils import fastcopy
from tiny_corpus import Corpus, write_corpus
from tiny_crops import tiny_crops

from valle.data.dataset import Batch, TokenDataset, padding_share
from valle.data.loader import SamplerSettings, bucket_edges, choose_cuts, epoch_batches, fixed_batches
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests

CROPS = tiny_crops(seconds={"semantic": 30.0, "coarse": 30.0, "fine": 30.0})
SETTINGS = SamplerSettings(
    max_duration=30.0, num_buckets=12, buffer_size=2000, shuffle_buffer_size=2000, drop_last=False, min_cut=0.5, max_cut=20.0, seed=3
)


class Named(TokenDataset):
    """The ids and durations of each batch instead of its tokens."""

    def __getitem__(self, cuts: CutSet) -> Batch:  # type: ignore[override]
        return [(cut.id, cut.duration) for cut in cuts]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> TokenManifests:
    return read_manifests(write_corpus(tmp_path_factory.mktemp("corpus"), Corpus(num_train=240, num_dev=12, longest=5.0)))


@pytest.fixture(scope="module")
def cuts(manifests: TokenManifests) -> list[Cut]:
    return list(manifests.cuts("train"))


def batches_of(
    cuts: Sequence[Cut], manifests: TokenManifests, *, epoch: int = 1, skip: int = 0, rank: int = 0, world_size: int = 1, **changes: object
) -> list[list[tuple[str, float]]]:
    """Ids and durations of the batches of one rank."""
    dataset = Named(manifests, CROPS, epoch=epoch)
    return list(  # type: ignore[arg-type]
        epoch_batches(
            CutSet.from_cuts(cuts), dataset, replace(SETTINGS, **changes), epoch=epoch, skip=skip, rank=rank, world_size=world_size,
            num_workers=0,
        )
    )  # fmt: skip


def ids(batches: list[list[tuple[str, float]]]) -> list[str]:
    return [name for batch in batches for name, _ in batch]


@pytest.mark.parametrize("most", [8.0, 30.0, 100.0])
def test_batches_stay_within_their_duration_and_hold_every_cut_once(cuts: list[Cut], manifests: TokenManifests, most: float) -> None:
    """Rows times the longest row, padding included.  lhotse judges by the cuts before the last, so that a batch may
    exceed its size by what the last one is longer: less than a bucket is wide.
    """
    batches = batches_of(cuts, manifests, max_duration=most)
    assert sorted(ids(batches)) == sorted(cut.id for cut in cuts)
    for batch in batches:
        assert len(batch) * max((seconds for _, seconds in batch[:-1]), default=0) <= most
    filled = [len(batch) * max(seconds for _, seconds in batch) / most for batch in batches]
    assert max(filled) < 1.25 and sum(filled) / len(filled) > 0.6


def test_padding_is_at_most_eight_percent_of_the_tokens(cuts: list[Cut], manifests: TokenManifests) -> None:
    dataset = TokenDataset(manifests, CROPS, epoch=1)
    batches = list(epoch_batches(CutSet.from_cuts(cuts), dataset, SETTINGS, epoch=1, skip=0, rank=0, world_size=1, num_workers=0))
    sizes = [batch["coarse"]["codes"].shape[0] * batch["coarse"]["codes"].shape[1] for batch in batches]
    padded = sum(padding_share(batch) * size for batch, size in zip(batches, sizes, strict=True))
    assert len(batches) > 15 and 0 < padded / sum(sizes) <= 0.08


def test_the_order_is_a_function_of_seed_and_epoch(cuts: list[Cut], manifests: TokenManifests) -> None:
    first = batches_of(cuts, manifests, epoch=4)
    assert batches_of(cuts, manifests, epoch=4) == first
    assert batches_of(cuts, manifests, epoch=5) != first
    assert batches_of(cuts, manifests, epoch=4, seed=9) != first


def test_resuming_after_some_batches_gives_the_tail_of_the_epoch(cuts: list[Cut], manifests: TokenManifests) -> None:
    """A sampler's own state runs ahead by what was prefetched: "10 consumed, resumed at 14"."""
    for world_size in (1, 2):
        whole = batches_of(cuts, manifests, world_size=world_size)
        for skip in (0, 1, 7, len(whole) - 1, len(whole)):
            assert batches_of(cuts, manifests, skip=skip, world_size=world_size) == whole[skip:]


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("num_cuts", [240, 61, 7])
def test_ranks_share_an_epoch_without_overlap_and_take_as_many_steps(
    cuts: list[Cut], manifests: TokenManifests, world_size: int, num_cuts: int
) -> None:
    """Unequal numbers of steps would hang the ranks, and a cut on two of them would count twice."""
    ranks = [batches_of(cuts[:num_cuts], manifests, rank=rank, world_size=world_size, max_duration=20.0) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    together = [name for batches in ranks for name in ids(batches)]
    doubled = [name for name in together if "_dup" in name]  # so lhotse names what makes the last step even
    assert len(doubled) < world_size
    assert sorted(set(together) - set(doubled)) == sorted(cut.id for cut in cuts[:num_cuts]), "nothing is lost without --drop-last"
    assert len(together) == len(set(together))


def test_drop_last_is_obeyed_either_way(cuts: list[Cut], manifests: TokenManifests) -> None:
    kept, dropped = (batches_of(cuts[:50], manifests, drop_last=drop, max_duration=20.0) for drop in (False, True))
    assert len(ids(kept)) == 50 and 0 < len(ids(dropped)) < 50


@pytest.mark.parametrize("num_cuts", [1, 2, 3, 5])
def test_few_cuts_make_an_epoch(cuts: list[Cut], manifests: TokenManifests, num_cuts: int) -> None:
    for world_size in range(1, min(num_cuts, 2) + 1):
        ranks = [batches_of(cuts[:num_cuts], manifests, rank=rank, world_size=world_size) for rank in range(world_size)]
        assert sorted(name for batches in ranks for name in ids(batches)) == sorted(cut.id for cut in cuts[:num_cuts])
        assert len({len(batches) for batches in ranks}) == 1 and len(ranks[0]) >= 1


def test_fewer_cuts_than_ranks_are_refused(cuts: list[Cut], manifests: TokenManifests) -> None:
    with pytest.raises(ManifestError, match=r"at least one training cut for each of 4 processes, found 3; lower --world-size"):
        batches_of(cuts[:3], manifests, world_size=4)


def test_filters_keep_what_they_say_and_refuse_to_keep_nothing(cuts: list[Cut], manifests: TokenManifests) -> None:
    kept = batches_of(cuts, manifests, min_cut=2.0, max_cut=3.0)
    assert sorted(ids(kept)) == sorted(cut.id for cut in cuts if 2 <= cut.duration <= 3)
    with pytest.raises(ManifestError, match=r"expected training cuts of 50 to 60 s, found none; change --filter-min-duration"):
        batches_of(cuts, manifests, min_cut=50.0, max_cut=60.0)


def test_a_cut_costs_what_is_read_of_it(cuts: list[Cut], manifests: TokenManifests) -> None:
    dataset = Named(manifests, replace(CROPS, seconds={"semantic": 1.2, "coarse": 1.0, "fine": 1.0}), epoch=1)
    batches = epoch_batches(CutSet.from_cuts(cuts), dataset, SETTINGS, epoch=1, skip=0, rank=0, world_size=1, num_workers=0)
    found = [seconds for batch in batches for _, seconds in batch]  # type: ignore[misc]
    assert len(found) == len(cuts) and max(found) == 1.2


def test_the_number_of_workers_changes_nothing(manifests: TokenManifests) -> None:
    dataset = TokenDataset(manifests, replace(CROPS, seconds={"semantic": 2.0, "coarse": 1.0, "fine": 1.0}), epoch=2)

    def epoch(num_workers: int) -> list[Batch]:
        return list(epoch_batches(manifests.cuts("dev"), dataset, SETTINGS, epoch=2, skip=0, rank=0, world_size=1, num_workers=num_workers))

    one, other = epoch(0), epoch(2)
    assert len(one) == len(other) > 0
    for batch, twin in zip(one, other, strict=True):
        for stage, tensors in batch.items():
            assert all(torch.equal(values, twin[stage][name]) for name, values in tensors.items())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_users_mistake_comes_through_a_worker_as_its_sentence(tmp_path: Path, num_workers: int) -> None:
    manifests = read_manifests(write_corpus(tmp_path, Corpus(num_train=3, num_dev=1)))
    (manifests.folder / "train.h5").unlink()
    dataset = TokenDataset(manifests, CROPS, epoch=1)
    with pytest.raises(ManifestError) as refused:
        list(epoch_batches(manifests.cuts("train"), dataset, SETTINGS, epoch=1, skip=0, rank=0, world_size=1, num_workers=num_workers))
    assert str(refused.value).startswith("the codes of cut train-00") and "Traceback" not in str(refused.value)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.5, 30), min_size=1, max_size=300), st.integers(1, 40), st.floats(10, 500))
def test_buckets_rise_and_hold_equal_shares_of_the_audio(durations: list[float], num_buckets: int, max_duration: float) -> None:
    edges = bucket_edges(durations, replace(SETTINGS, num_buckets=num_buckets, max_duration=max_duration))
    assert edges == sorted(edges) and 1 <= len(edges) <= max(1, num_buckets - 1)
    assert len(edges) <= max(1, sum(durations) / max_duration)
    if len(edges) > 1:
        for number, edge in enumerate(edges, start=1):
            shorter = sum(seconds for seconds in durations if seconds < edge)
            wanted = sum(durations) * number / (len(edges) + 1)
            assert shorter - 1e-6 <= wanted <= sum(seconds for seconds in durations if seconds <= edge) + 1e-6


@pytest.mark.parametrize("world_size", [1, 2])
def test_short_and_long_cuts_last_for_the_whole_epoch(cuts: list[Cut], manifests: TokenManifests, world_size: int) -> None:
    """Also where most of them count for one length; else an epoch ends with long cuts alone, which may be one corpus of several."""
    many = [fastcopy(cuts[0], id=f"cut-{number}", duration=1 + number * 7 % 800 / 100) for number in range(1600)]
    dataset = Named(manifests, replace(CROPS, seconds=dict.fromkeys(CROPS.collate, 4.0)), epoch=1)
    some = replace(SETTINGS, num_buckets=6)
    batches: list[list[tuple[str, float]]] = list(  # type: ignore[assignment]
        epoch_batches(CutSet.from_cuts(many), dataset, some, epoch=1, skip=0, rank=0, world_size=world_size, num_workers=0)
    )
    short = [seconds < 4.0 for batch in batches for _, seconds in batch]
    halves = short[: len(short) // 2], short[len(short) // 2 :]
    assert all(abs(sum(half) / len(half) - 3 / 8) < 0.1 for half in halves)


def test_validation_sees_every_cut_once_in_an_order_of_its_own(cuts: list[Cut], manifests: TokenManifests) -> None:
    dataset = Named(manifests, CROPS, epoch=0)

    def batches(some: list[Cut], rank: int = 0, world_size: int = 1) -> list[list[tuple[str, float]]]:
        return list(fixed_batches(some, dataset, max_duration=30.0, rank=rank, world_size=world_size))  # type: ignore[arg-type]

    whole = batches(cuts)
    assert batches(cuts[::-1]) == whole and sorted(ids(whole)) == sorted(cut.id for cut in cuts)
    assert all(len(batch) * max(seconds for _, seconds in batch) <= 30.0 for batch in whole)
    ranks = [batches(cuts, rank, 3) for rank in range(3)]
    assert [whole[rank::3] for rank in range(3)] == ranks


def test_cuts_for_validation_are_the_same_every_time_and_spread_over_the_corpus(cuts: list[Cut]) -> None:
    few, more = (choose_cuts(CutSet.from_cuts(cuts), SETTINGS, most=most) for most in (20, 60))
    assert (
        [cut.id for cut in few]
        == [cut.id for cut in more][:20]
        == [cut.id for cut in choose_cuts(CutSet.from_cuts(cuts[::-1]), SETTINGS, most=20)]
    )
    numbers = [int(cut.id.rpartition("-")[2]) for cut in more]
    assert all(any(start <= number < start + 60 for number in numbers) for start in range(0, 240, 60))
    assert len(choose_cuts(CutSet.from_cuts(cuts), SETTINGS, most=10**6)) == len(cuts)
