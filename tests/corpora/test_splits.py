"""Splits are by hash, leave no part empty where that can be, and stay when files are added."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from valle.corpora.splits import split_groups, split_time

names = st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=40, unique=True)
shares = st.floats(0.0, 0.45)


@given(names, shares, shares, st.integers(0, 5))
def test_from_three_groups_on_no_part_is_empty(groups: list[str], dev: float, test: float, seed: int) -> None:
    parts = split_groups(groups, dev_share=dev, test_share=test, seed=seed)
    assert set(parts) == set(groups)
    assert set(parts.values()) == {"train", "dev", "test"}


@given(names, st.integers(0, 5), st.randoms())
def test_the_split_does_not_depend_on_the_order(groups: list[str], seed: int, random) -> None:
    shuffled = list(groups)
    random.shuffle(shuffled)
    assert split_groups(groups, dev_share=0.1, test_share=0.1, seed=seed) == split_groups(
        shuffled, dev_share=0.1, test_share=0.1, seed=seed
    )


def test_more_files_move_none_of_those_there_were() -> None:
    groups = [f"file-{number}" for number in range(200)]
    before = split_groups(groups, dev_share=0.1, test_share=0.1, seed=0)
    after = split_groups([*groups, *(f"new-{number}" for number in range(200))], dev_share=0.1, test_share=0.1, seed=0)
    assert {group: after[group] for group in groups} == before


def test_shares_are_about_what_was_asked() -> None:
    parts = split_groups([str(number) for number in range(4000)], dev_share=0.1, test_share=0.2, seed=1)
    counts = [list(parts.values()).count(part) / 4000 for part in ("train", "dev", "test")]
    assert all(abs(count - wanted) < 0.02 for count, wanted in zip(counts, (0.7, 0.1, 0.2), strict=True))


@given(st.integers(0, 200), st.floats(0, 0.45), st.floats(0, 0.45))
def test_time_is_split_in_order_and_nothing_is_lost(count: int, dev: float, test: float) -> None:
    parts = split_time(list(range(count)), dev_share=dev, test_share=test)
    assert [*parts["train"], *parts["dev"], *parts["test"]] == list(range(count))
    assert [bool(parts[part]) for part in ("train", "dev", "test")] == [count > 0, count > 1, count > 2]
