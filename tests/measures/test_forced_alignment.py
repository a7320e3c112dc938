"""Forced alignment equals the best of all ways through the frames, tried one by one."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from valle.measures.forced_alignment import Segment, align_segments, frame_labels, spread

CLASSES = 4


def every_way(frames: int, segments: list[Segment]) -> list[list[tuple[int, int] | None]]:
    """All spans that segments may take: every choice of optional ones, every place of the edges between those that are there."""
    ways = []
    optional = [place for place, segment in enumerate(segments) if segment.optional]
    for count in range(len(optional) + 1):
        for missing in combinations(optional, count):
            there = [place for place in range(len(segments)) if place not in missing]
            for inner in combinations(range(1, frames), len(there) - 1):
                edges = [0, *inner, frames]
                spans = list(pairwise(edges))
                if all(end - begin >= segments[place].min_frames for place, (begin, end) in zip(there, spans, strict=True)):
                    found: list[tuple[int, int] | None] = [None] * len(segments)
                    for place, span in zip(there, spans, strict=True):
                        found[place] = span
                    ways.append(found)
    return ways


def score_of(spans: list[tuple[int, int] | None], segments: list[Segment], scores: np.ndarray) -> float:
    return sum(
        float(scores[span[0] : span[1], segment.label].sum()) for span, segment in zip(spans, segments, strict=True) if span is not None
    )


SEGMENTS = st.lists(
    st.builds(Segment, label=st.integers(0, CLASSES - 1), min_frames=st.integers(1, 3), optional=st.booleans()), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SEGMENTS, st.integers(1, 8), st.integers(0, 99))
def test_alignment_is_the_best_of_all_ways(segments: list[Segment], frames: int, seed: int) -> None:
    assume(not all(segment.optional for segment in segments))
    assume(not any(one.optional and other.optional for one, other in pairwise(segments)))
    scores = np.random.default_rng(seed).integers(-3, 4, (frames, CLASSES)).astype(np.float64)  # with ties
    ways = every_way(frames, segments)
    path = align_segments(scores, segments)
    if not ways:
        assert path is None
        return
    assert path is not None
    assert path.score == max(score_of(way, segments, scores) for way in ways)
    assert path.spans in ways and score_of(path.spans, segments, scores) == path.score


def test_a_pause_is_found_where_there_is_one_and_only_there() -> None:
    heard = np.array([0, 0, 1, 1, 2, 2, 0, 0, 0, 3, 3])
    scores = np.log(0.9 * np.eye(CLASSES)[heard] + 0.025)
    pause = Segment(0, 2, optional=True)
    path = align_segments(scores, [pause, Segment(1), pause, Segment(2), pause, Segment(3), pause])
    assert path is not None and path.spans == [(0, 2), (2, 4), None, (4, 6), (6, 9), (9, 11), None]


def test_no_frames_and_too_few_frames_have_no_alignment() -> None:
    assert align_segments(np.zeros((0, 2)), [Segment(0)]) is None
    assert align_segments(np.zeros((3, 2)), [Segment(0, 2), Segment(1, 2)]) is None
    path = align_segments(np.zeros((4, 2)), [Segment(0, 2), Segment(1, 2)])
    assert path is not None and path.spans == [(0, 2), (2, 4)]


def test_chains_that_could_be_read_in_two_ways_are_refused() -> None:
    pause = Segment(0, optional=True)
    for segments in ([pause, pause, Segment(1)], [pause]):
        with pytest.raises(ValueError, match="expected"):
            align_segments(np.zeros((5, 2)), segments)
    with pytest.raises(ValueError, match="at least 1 frame"):
        Segment(0, 0)


def test_time_is_spread_by_weight() -> None:
    assert spread([1, 1, 2], 1.0, 3.0) == [(1.0, 1.5), (1.5, 2.0), (2.0, 3.0)]


def test_a_frame_has_the_class_at_its_middle() -> None:
    labels = frame_labels([(2, 0.01, 0.035), (1, 0.035, 0.05)], num_frames=6, step=0.01, none=-1)
    assert labels.tolist() == [-1, 2, 2, 1, 1, -1]  # the middle of frame 3 is 0.035
