"""Units that are made when they are asked for, and forgotten behind all who read them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import valle.models.unit_feed
from valle.decoding.seats import Seats
from valle.models.unit_feed import UnitFeed
from valle.models.unit_window import AroundAll, AroundFed, UnitWindow
from valle.timeline import Periods


def one_by_one(units: Tensor, asked: list[int] | None = None) -> Iterator[Tensor]:
    for number, unit in enumerate(units):
        if asked is not None:
            asked.append(number)
        yield unit[None]


@settings(deadline=None, max_examples=30)
@given(prompt=st.integers(0, 6), new=st.integers(0, 13), sizes=st.lists(st.integers(1, 5), min_size=20, max_size=20))
def test_all_that_a_feed_gives_are_the_whole_periods_of_its_units(prompt: int, new: int, sizes: list[int]) -> None:
    periods = Periods(units=2, frames=3)
    units = torch.arange(2 * prompt + new)
    cut, rest = [], units[2 * prompt :]
    for size in sizes:
        cut.append(rest[:size])
        rest = rest[size:]
    pieces = iter([*cut, rest])
    reader = UnitFeed(units[: 2 * prompt], pieces, periods).reader()
    whole = len(units) // 2 * 2
    assert torch.equal(reader.between(0, 10**6), units[:whole])
    assert reader.num_frames(10**6) == whole // 2 * 3
    assert torch.equal(reader.of_frames(3, 7), units[2:6][: max(0, whole - 2)])


def test_no_unit_is_made_before_it_is_asked_for() -> None:
    asked: list[int] = []
    reader = UnitFeed(torch.arange(4), one_by_one(torch.arange(100), asked), Periods(units=1, frames=2)).reader()
    reader.between(0, 4)
    assert reader.num_frames(8) == 8 and not asked
    assert reader.num_frames(9) == 10 and len(asked) == 1
    reader.between(6, 9)
    assert len(asked) == 5


def test_units_are_kept_for_the_reader_that_is_furthest_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valle.models.unit_feed, "FORGOTTEN_AT_ONCE", 1)
    feed = UnitFeed(torch.arange(4), one_by_one(torch.arange(4, 100)), Periods(units=1, frames=2))
    ahead, behind = feed.reader(reach=3), feed.reader()
    ahead.between(0, 60)
    ahead.forget(50)
    assert feed.held == 60
    behind.forget(48)
    assert feed.held == 13 and behind.between(48, 50).tolist() == [48, 49] and ahead.between(47, 48).tolist() == [47]


def test_what_is_said_around_a_frame_is_the_same_of_units_that_are_made_and_of_all_at_once() -> None:
    torch.manual_seed(0)
    periods = Periods(units=2, frames=3)
    window = UnitWindow(num_units=7, d_model=16, reach=2, periods=periods)
    units = torch.randint(7, (12,))
    whole = AroundAll(window, [units], 24)
    fed = AroundFed(window, UnitFeed(units[:2], one_by_one(units[2:]), periods).reader(reach=2))
    seats = Seats.of([0])
    for frame in range(22):  # past the last frame, too
        assert torch.allclose(fed.of_rows(torch.tensor([frame]), seats), whole.of_rows(torch.tensor([frame]), seats), atol=1e-6)
    assert torch.allclose(fed.of_row(0, torch.arange(3, 20)), whole.of_row(0, torch.arange(3, 20)), atol=1e-6)
