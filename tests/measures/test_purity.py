"""Purities and PNMI against counting by hand and against the definition frame by frame."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.measures.purity import joint_counts, purity, purity_interval


def slow_purity(phones: list[int], units: list[int]) -> tuple[float, float, float]:
    count, pairs = len(phones), Counter(zip(phones, units, strict=True))
    by_phone, by_unit = Counter(phones), Counter(units)
    phone_purity = sum(max(pairs[phone, unit] for phone in by_phone) for unit in by_unit) / count
    cluster_purity = sum(max(pairs[phone, unit] for unit in by_unit) for phone in by_phone) / count
    information = sum(found / count * math.log(found * count / (by_phone[phone] * by_unit[unit])) for (phone, unit), found in pairs.items())
    entropy = -sum(found / count * math.log(found / count) for found in by_phone.values())
    return phone_purity, cluster_purity, information / entropy if entropy else math.nan


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=60))
def test_purity_equals_the_definition(frames: list[tuple[int, int]]) -> None:
    phones, units = (np.array(side) for side in zip(*frames, strict=True))
    found = purity(joint_counts(phones, units, num_phones=4, num_units=5))
    assert (found.phone_purity, found.cluster_purity, found.pnmi) == pytest.approx(
        slow_purity(phones.tolist(), units.tolist()), nan_ok=True, abs=1e-9
    )


def test_purity_by_hand() -> None:
    joint = np.array([[3, 1], [0, 4]])
    found = purity(joint)
    assert (found.phone_purity, found.cluster_purity) == (7 / 8, 7 / 8)
    assert found.pnmi == pytest.approx((3 / 8 * math.log(2) + 1 / 8 * math.log(0.4) + 0.5 * math.log(1.6)) / math.log(2))


def test_units_that_are_the_phones_tell_all_and_a_single_unit_nothing() -> None:
    phones = np.arange(40) % 4
    same = purity(joint_counts(phones, 3 - phones, num_phones=4, num_units=4))
    assert (same.phone_purity, same.cluster_purity) == (1, 1) and same.pnmi == pytest.approx(1)
    one = purity(joint_counts(phones, np.zeros(40, np.int64), num_phones=4, num_units=4))
    assert (one.phone_purity, one.cluster_purity, one.pnmi) == (0.25, 1, 0)


def test_permuted_units_tell_little() -> None:
    rng = np.random.default_rng(0)
    phones = rng.integers(0, 5, 4000)
    assert purity(joint_counts(phones, rng.permutation(phones), num_phones=5, num_units=5)).pnmi < 0.01


def test_no_frames_are_no_purity_and_frames_without_units_are_refused() -> None:
    assert math.isnan(purity(np.zeros((2, 3), np.int64)).pnmi)
    with pytest.raises(ValueError, match="a phone and a unit for each frame"):
        joint_counts(np.zeros(3, np.int64), np.zeros(2, np.int64), num_phones=1, num_units=1)


def test_the_interval_holds_the_estimate_and_narrows_with_more_utterances() -> None:
    rng = np.random.default_rng(0)
    joints = np.stack([rng.multinomial(60, np.array([[5, 1, 1], [1, 4, 2]]).ravel() / 14).reshape(2, 3) for _ in range(64)])
    widths = []
    for count in (16, 64):
        low, high = purity_interval(joints[:count])
        assert low < purity(joints[:count].sum(0)).pnmi < high
        widths.append(high - low)
    assert widths[1] < 0.7 * widths[0]
    assert all(math.isnan(bound) for bound in purity_interval(joints[:1]))
