"""Batches planned from durations: every cut once, within their size, as many on every rank, gone on with anywhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.data.epoch_plan import PlanSettings, RankPlan, deal, plan_epoch

SETTINGS = PlanSettings(max_duration=30.0, longest=10.0, window=100, drop_last=False, seed=3)


def durations(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 14.0, count)


def plans(
    seconds: np.ndarray, world_size: int, *, epoch: int = 1, shards: np.ndarray | None = None, **changes: object
) -> list[RankPlan]:
    numbers = np.arange(len(seconds), dtype=np.int32)
    where = np.full(len(seconds), -1, np.int32) if shards is None else shards
    some = replace(SETTINGS, **changes)
    return [plan_epoch(seconds, where, numbers, some, epoch=epoch, rank=rank, world_size=world_size) for rank in range(world_size)]


def batches(plan: RankPlan, skip: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in plan.batches(skip)]


def own(plan: RankPlan) -> np.ndarray:
    """A rank's cuts in the order in which they are taken."""
    return np.concatenate(plan.windows)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(count=st.integers(1, 700), world_size=st.integers(1, 5), window=st.integers(1, 300), most=st.floats(1, 100), in_shards=st.booleans())
def test_ranks_take_as_many_steps_and_every_cut_is_in_one_of_them(
    count: int, world_size: int, window: int, most: float, in_shards: bool
) -> None:
    seconds = durations(max(count, world_size))
    shards = np.arange(len(seconds), dtype=np.int32) // 2 if in_shards else None
    found = [batches(plan) for plan in plans(seconds, world_size, shards=shards, window=window, max_duration=most)]
    assert len({len(rank) for rank in found}) == 1
    per_rank = [set(chain.from_iterable(rank)) for rank in found]
    assert sum(map(len, per_rank)) == len(seconds) and set.union(*per_rank) == set(range(len(seconds)))
    for batch in chain.from_iterable(found):
        assert len(batch) == len(set(batch))
        assert len(batch) == 1 or len(batch) * min(10.0, max(seconds[batch])) <= most + 1e-6


def test_one_rank_repeats_nothing_and_hardly_any_batch_is_not_full() -> None:
    seconds = durations(5000)
    [plan] = plans(seconds, 1)
    found = batches(plan)
    assert sorted(chain.from_iterable(found)) == list(range(5000))
    filled = [len(batch) * min(10.0, max(seconds[batch])) / 30 for batch in found]
    assert np.mean(filled) > 0.9
    padded = sum(len(batch) * min(10.0, max(seconds[batch])) for batch in found)
    assert 1 - np.minimum(seconds, 10).sum() / padded < 0.08


def test_ranks_with_fewer_batches_repeat_some_or_all_stop_with_them() -> None:
    seconds, shards = durations(3000), np.repeat(np.arange(100, dtype=np.int32), 30)
    seconds[shards < 50] /= 4
    kept, dropped = (plans(seconds, 3, shards=shards, drop_last=drop) for drop in (False, True))
    steps = [len(batches(plan)) for plan in kept]
    assert len(set(steps)) == 1
    assert len(set(chain.from_iterable(batch for plan in kept for batch in batches(plan)))) == 3000
    repeated = [len(batches(plan)) - len(set(map(tuple, batches(plan)))) for plan in kept]
    assert min(repeated) == 0 < max(repeated) < 0.5 * steps[0]
    for plan in dropped:
        numbers = list(chain.from_iterable(batches(plan)))
        assert len(numbers) == len(set(numbers)) and len(batches(plan)) == min(plan.num_steps for plan in dropped)


@pytest.mark.parametrize("world_size", [1, 3])
def test_going_on_after_some_steps_gives_the_rest_of_the_epoch(world_size: int) -> None:
    for plan in plans(durations(900), world_size):
        whole = batches(plan)
        for skip in (0, 1, 17, len(whole) - 1, len(whole), len(whole) + 5):
            assert batches(plan, skip) == whole[skip:]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    seconds = durations(500)
    first = batches(plans(seconds, 1)[0])
    assert batches(plans(seconds, 1)[0]) == first
    assert batches(plans(seconds, 1, epoch=2)[0]) != first and batches(plans(seconds, 1, seed=4)[0]) != first


def test_many_shards_are_shuffled_and_each_is_read_by_one_rank() -> None:
    seconds, shards = durations(4000), np.repeat(np.arange(200, dtype=np.int32), 20)
    owners: dict[int, set[int]] = {}
    for plan in plans(seconds, 4, shards=shards):
        assert own(plan).tolist() != sorted(own(plan).tolist())
        for shard in shards[own(plan)]:
            owners.setdefault(int(shard), set()).add(plan.rank)
        order = [int(shard) for shard in dict.fromkeys(shards[own(plan)].tolist())]
        assert len(order) == 50 and np.all(np.diff(np.flatnonzero(np.diff(shards[own(plan)]))) == 20)  # one after the other
    assert all(len(ranks) == 1 for ranks in owners.values()) and len(owners) == 200
    again = plans(seconds, 4, shards=shards, epoch=2)[0]
    assert set(shards[own(again)].tolist()) != set(shards[own(plans(seconds, 4, shards=shards)[0])].tolist())


def test_cuts_are_dealt_where_shards_are_few() -> None:
    shares = deal(np.arange(1000, dtype=np.int32), np.zeros(1000, np.int32), 3, np.random.default_rng(0))
    assert sorted(map(len, shares)) == [333, 333, 334]


def test_ranks_have_batches_of_like_length_at_the_same_step() -> None:
    """Or the rank with the longest cuts makes all others wait."""
    seconds = durations(20000)
    ranks = [[seconds[batch].max() for batch in batches(plan)] for plan in plans(seconds, 4, longest=14.0, window=1000)]
    apart = np.ptp(np.array(ranks), axis=0)
    at_random = np.ptp(np.array([np.random.default_rng(rank).permutation(row) for rank, row in enumerate(ranks)]), axis=0)
    assert apart.mean() < 0.1 * at_random.mean()
