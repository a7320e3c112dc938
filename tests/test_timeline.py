"""The timeline: exact in integers, one place for every length."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from valle.timeline import Grid, GridMismatchError, Timeline

UNITS_25, UNITS_50 = Grid(sample_rate=16000, hop_length=640), Grid(sample_rate=16000, hop_length=320)
CODES_50, CODES_75 = Grid(sample_rate=16000, hop_length=320), Grid(sample_rate=24000, hop_length=320)
PAIRS = [(UNITS_25, CODES_50), (UNITS_50, CODES_50), (UNITS_25, CODES_75), (UNITS_50, CODES_75), (None, CODES_75)]


@pytest.mark.parametrize(
    ("units", "codes", "expected"), [(*PAIRS[0], (1, 2)), (*PAIRS[1], (1, 1)), (*PAIRS[2], (1, 3)), (*PAIRS[3], (2, 3))]
)
def test_a_period_holds_whole_units_and_frames(units: Grid, codes: Grid, expected: tuple[int, int]) -> None:
    timeline = Timeline(codes=codes, units=units)
    assert (timeline.units_per_period, timeline.frames_per_period) == expected
    assert timeline.period == expected[0] * units.step == expected[1] * codes.step


def test_grids_that_never_meet_are_refused() -> None:
    with pytest.raises(GridMismatchError, match=r"86\.1328 Hz only meet every 5\.12 s"):
        Timeline(codes=Grid(sample_rate=44100, hop_length=512), units=UNITS_25)


@given(pair=st.sampled_from(PAIRS[:4]), frame=st.integers(0, 10_000))
def test_the_unit_of_a_frame_is_the_one_in_which_it_starts(pair: tuple[Grid, Grid], frame: int) -> None:
    units, codes = pair
    timeline = Timeline(codes=codes, units=units)
    start = frame * codes.step
    unit = timeline.unit_of_frame(frame)
    assert unit * units.step <= start < (unit + 1) * units.step


def test_50_hz_units_against_a_75_hz_codec_map_frame_by_frame() -> None:
    timeline = Timeline(codes=CODES_75, units=UNITS_50)
    assert timeline.unit_of_frame(torch.arange(9)).tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]


@given(pair=st.sampled_from(PAIRS), num_units=st.integers(0, 5000), num_frames=st.integers(0, 5000))
def test_aligned_lengths_cover_the_same_time(pair: tuple[Grid | None, Grid], num_units: int, num_frames: int) -> None:
    units, codes = pair
    timeline = Timeline(codes=codes, units=units)
    kept_units, kept_frames = timeline.align(num_units, num_frames)
    assert kept_frames <= num_frames and num_frames - kept_frames < max(timeline.frames_per_period, num_frames + 1)
    if units is not None:
        assert kept_units <= num_units
        assert kept_units * units.step == kept_frames * codes.step


@given(pair=st.sampled_from(PAIRS[:4]), periods=st.integers(0, 1000))
def test_units_and_frames_convert_back(pair: tuple[Grid, Grid], periods: int) -> None:
    timeline = Timeline(codes=pair[1], units=pair[0])
    num_units = periods * timeline.units_per_period
    assert timeline.units_for_frames(timeline.frames_for_units(num_units)) == num_units


def test_hubert_that_gives_149_units_for_three_seconds_loses_one_period_not_alignment() -> None:
    timeline = Timeline(codes=CODES_50, units=UNITS_50)
    assert timeline.align(149, 150) == (149, 149)


@pytest.mark.parametrize("seconds", [3.0, 0.1, 10.0, 1 / 3, 29.96])
def test_seconds_are_not_lost_to_floating_point(seconds: float) -> None:
    timeline = Timeline(codes=CODES_50, units=UNITS_25)
    assert timeline.periods_for(seconds) == int(Fraction(seconds).limit_denominator(10_000) / Fraction(1, 25))


def test_a_timeline_survives_its_dictionary() -> None:
    for units, codes in PAIRS:
        timeline = Timeline(codes=codes, units=units)
        assert Timeline.from_dict(timeline.to_dict()) == timeline
