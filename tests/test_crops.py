"""Crops: whole periods of the timeline, placed by a hash."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from valle.crops import choose_crop
from valle.seeds import draw
from valle.timeline import MAX_PERIOD, Grid, GridMismatchError, Timeline

EXACT = settings(max_examples=100, deadline=None, derandomize=True)

TIMELINES = {
    "25 and 50 Hz": Timeline(units=Grid(16000, 640), codes=Grid(16000, 320)),
    "50 and 75 Hz": Timeline(units=Grid(16000, 320), codes=Grid(24000, 320)),
    "50 and 50 Hz": Timeline(units=Grid(16000, 320), codes=Grid(32000, 640)),
    "25 and 75 Hz": Timeline(units=Grid(16000, 640), codes=Grid(24000, 320)),
    "75 Hz alone": Timeline(codes=Grid(24000, 320)),
}
CHANCES = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("name", TIMELINES)
@EXACT
@given(num_periods=st.integers(1, 4000), seconds=st.floats(0.01, 60), chance=CHANCES)
def test_crops_snap_to_the_grid_that_units_and_codes_share(name: str, num_periods: int, seconds: float, chance: float) -> None:
    timeline = TIMELINES[name]
    crop = choose_crop(timeline, num_periods=num_periods, seconds=seconds, chance=chance)
    assert 0 <= crop.start < crop.stop <= crop.total == num_periods
    first, last = crop.start * timeline.period, crop.stop * timeline.period
    assert (crop.frames.start * timeline.codes.step, crop.frames.stop * timeline.codes.step) == (first, last)
    if timeline.units:
        assert (crop.units.start * timeline.units.step, crop.units.stop * timeline.units.step) == (first, last)
    else:
        assert crop.units == slice(0, 0)
    assert last - first <= max(Fraction(seconds) * Fraction(1_000_001, 1_000_000) + Fraction(1, 10**6), timeline.period)


@EXACT
@given(num_periods=st.integers(1, 500), seconds=st.floats(0.01, 30), chance=CHANCES)
def test_bos_and_eos_only_at_the_true_start_and_end(num_periods: int, seconds: float, chance: float) -> None:
    crop = choose_crop(TIMELINES["25 and 50 Hz"], num_periods=num_periods, seconds=seconds, chance=chance)
    assert crop.holds_start == (crop.units.start == 0)
    assert crop.holds_end == (crop.units.stop == num_periods)


@EXACT
@given(
    unit_rate=st.sampled_from([8000, 16000, 22050, 24000, 44100]), unit_hop=st.integers(100, 2000),
    rate=st.sampled_from([16000, 24000, 32000, 44100]), hop=st.integers(100, 2000),
)  # fmt: skip
def test_grids_that_share_no_usable_period_are_refused_and_others_meet_exactly(unit_rate: int, unit_hop: int, rate: int, hop: int) -> None:
    units, codes = Grid(unit_rate, unit_hop), Grid(rate, hop)
    meet = next(
        (frames * codes.step for frames in range(1, int(MAX_PERIOD / codes.step) + 1) if frames * codes.step % units.step == 0), None
    )
    if meet is None:
        with pytest.raises(GridMismatchError, match="choose tokenizers whose rates meet"):
            Timeline(units=units, codes=codes)
    else:
        assert Timeline(units=units, codes=codes).period == meet


def test_three_seconds_are_three_seconds() -> None:
    for timeline in TIMELINES.values():
        for seconds in (3.0, 10.0, 30.0, 0.3, 2.4):
            assume_whole = Fraction(str(seconds)) % timeline.period == 0
            crop = choose_crop(timeline, num_periods=10**6, seconds=seconds, chance=0.3)
            length = (crop.stop - crop.start) * timeline.period
            assert length == Fraction(str(seconds)) if assume_whole else length < seconds


@EXACT
@given(num_periods=st.integers(2, 200), length=st.integers(1, 199))
def test_every_place_is_as_likely_as_any_other(num_periods: int, length: int) -> None:
    assume(length <= num_periods)
    timeline = TIMELINES["25 and 50 Hz"]
    places = num_periods - length + 1
    chances = (np.arange(10 * places) + 0.5) / (10 * places)
    starts = [choose_crop(timeline, num_periods=num_periods, seconds=length / 25, chance=chance).start for chance in chances]
    assert np.bincount(starts).tolist() == [10] * places


def test_what_is_drawn_depends_on_the_arguments_alone_and_never_changes() -> None:
    pinned = {
        (42, 1, "1688-142285-0000", "semantic"): 0.6631974400018482,
        (42, 1, "1688-142285-0000", "fine"): 0.12915945667228496,
        (42, 2, "1688-142285-0000", "fine"): 0.45747787920161503,
    }
    assert {arguments: draw(*arguments) for arguments in pinned} == pinned


def test_draws_are_even_and_of_one_another_independent() -> None:
    values = np.array([[draw(seed, epoch, f"cut-{cut}", "fine") for cut in range(200)] for seed in range(3) for epoch in range(5)])
    assert np.histogram(values, bins=10, range=(0, 1))[0].min() > 240  # of 300 expected
    assert np.abs(np.corrcoef(values) - np.eye(len(values))).max() < 0.3
