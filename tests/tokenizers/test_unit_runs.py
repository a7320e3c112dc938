"""Units as runs with durations, and back."""

from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.errors import UserError
from valle.tokenizers.unit_runs import collapse, collapse_rows, restore

streams = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=8).map(
    lambda runs: [unit for unit, count in runs for _ in range(count)]
)
longest_runs = st.integers(1, 6)


def slow_collapse(units: list[int], longest: int) -> list[tuple[int, int]]:
    """The same by a loop."""
    found = []
    for unit, group in groupby(units):
        left = len(list(group))
        while left:
            found.append((unit, min(left, longest)))
            left -= found[-1][1]
    return found


@given(units=streams, longest=longest_runs)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_runs_are_restored_to_the_same_units(units: list[int], longest: int) -> None:
    collapsed, durations = collapse(torch.tensor(units, dtype=torch.int64), longest)
    assert restore(collapsed, durations).tolist() == units


@given(units=streams, longest=longest_runs)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_runs_are_those_of_a_slow_loop(units: list[int], longest: int) -> None:
    collapsed, durations = collapse(torch.tensor(units, dtype=torch.int64), longest)
    assert list(zip(collapsed.tolist(), durations.tolist(), strict=True)) == slow_collapse(units, longest)


@given(units=streams, longest=longest_runs)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_run_is_longer_than_the_longest_and_equal_neighbours_are_one_run(units: list[int], longest: int) -> None:
    collapsed, durations = collapse(torch.tensor(units, dtype=torch.int64), longest)
    assert all(1 <= duration <= longest for duration in durations.tolist())
    pairs = zip(collapsed.tolist(), collapsed.tolist()[1:], durations.tolist(), strict=False)
    assert all(duration == longest for unit, following, duration in pairs if unit == following)


@given(rows=st.lists(streams, min_size=1, max_size=4), longest=longest_runs, filler=st.integers(0, 4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_row_has_the_same_runs_alone_and_in_a_padded_batch(rows: list[list[int]], longest: int, filler: int) -> None:
    width = max(map(len, rows)) + 2
    padded = torch.tensor([row + [filler] * (width - len(row)) for row in rows])
    runs = collapse_rows(padded, torch.tensor([len(row) for row in rows]), longest)
    for index, row in enumerate(rows):
        count = int(runs.lengths[index])
        expected = slow_collapse(row, longest)
        assert list(zip(runs.units[index, :count].tolist(), runs.durations[index, :count].tolist(), strict=True)) == expected
        first = sum(1 for _ in next(groupby(row))[1]) if row else 0  # frames until something else is said
        assert int((runs.opening[index] * runs.durations[index]).sum()) == first
        assert not runs.units[index, count:].any() and not runs.durations[index, count:].any()


def test_runs_and_durations_must_agree() -> None:
    with pytest.raises(UserError, match="a duration for each of 2 units"):
        restore(torch.tensor([1, 2]), torch.tensor([1]))
    with pytest.raises(UserError, match="1 frame or more, found 0"):
        restore(torch.tensor([1, 2]), torch.tensor([1, 0]))
    with pytest.raises(UserError, match="longest run of 1 frame"):
        collapse(torch.tensor([1]), 0)
