"""Cutting long recordings: whole, within limits, and where it is quiet."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.corpora.folder_decode import Levels
from valle.corpora.folder_segments import Cutting, is_silent, segments_of

RATE, HOP = 16000, 320


def levels_of(seconds: float, *, quiet: tuple[tuple[float, float], ...] = (), seed: int = 0) -> Levels:
    """Noise of a random loudness, silent within ``quiet``."""
    num_samples = round(seconds * RATE)
    power = np.random.default_rng(seed).uniform(0.01, 0.1, -(-num_samples // HOP)).astype(np.float32)
    for first, last in quiet:
        power[round(first * RATE / HOP) : round(last * RATE / HOP)] = 0
    return Levels(sample_rate=RATE, num_channels=1, num_samples=num_samples, hop=HOP, power=power)


@settings(deadline=None)
@given(
    st.floats(0.5, 300),
    st.sampled_from(list(Cutting)),
    st.sampled_from([(1.0, 2.0), (1.0, 15.0), (5.0, 15.0), (0.5, 3.3)]),
    st.integers(0, 9),
)
def test_pieces_cover_the_recording_within_both_limits(seconds: float, cutting: Cutting, limits: tuple[float, float], seed: int) -> None:
    levels = levels_of(seconds, seed=seed)
    pieces = segments_of(levels, min_seconds=limits[0], max_seconds=limits[1], cutting=cutting)
    assert pieces[0][0] == 0 and pieces[-1][1] == levels.num_samples
    assert all(one[1] == two[0] for one, two in itertools.pairwise(pieces))
    lengths = [(last - first) / RATE for first, last in pieces]
    assert max(lengths) <= limits[1] + 1 / RATE
    assert len(pieces) == 1 or min(lengths) >= limits[0]


def test_a_long_recording_is_cut_in_its_pauses() -> None:
    levels = levels_of(60, quiet=((11.0, 11.6), (22.0, 22.5), (34.1, 34.6), (46.0, 46.5)))
    edges = [last / RATE for _, last in segments_of(levels, min_seconds=1, max_seconds=15, cutting=Cutting.silence)][:-1]
    assert [round(edge) for edge in edges] == [11, 22, 34, 46]
    assert all(min(abs(edge - middle) for middle in (11.3, 22.25, 34.35, 46.25)) < 0.3 for edge in edges)


def test_windows_are_of_one_length() -> None:
    pieces = segments_of(levels_of(100), min_seconds=1, max_seconds=15, cutting=Cutting.windows)
    assert {last - first for first, last in pieces} <= {228571, 228572}


@pytest.mark.parametrize(("segment", "silent"), [((16000, 32000), True), ((16000, 33000), False), ((15000, 31000), False)])
def test_a_piece_is_silent_where_nothing_sounds(segment: tuple[int, int], silent: bool) -> None:
    assert is_silent(levels_of(4, quiet=((1.0, 2.0),)), segment) is silent
