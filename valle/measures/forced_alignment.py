"""When each of a known sequence of sounds is heard: Viterbi alignment (Rabiner 1989, III-B), and how far two alignments differ.

A chain of segments, each of one class of sound, is laid over frames such that the sum of the frames' scores is greatest.  A
segment lasts at least a number of frames; optional ones, such as pauses between words, may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Spans = list[tuple[int, int] | None]  # first frame and the one after the last, of each segment; None for one that is missing

_STAY, _STEP, _SKIP = range(3)  # within a state, to the next, over an optional segment


@dataclass(frozen=True)
class Segment:
    """A class of sound, how many frames it lasts at least, and whether it may be missing."""

    label: int
    min_frames: int = 1
    optional: bool = False

    def __post_init__(self) -> None:
        if self.min_frames < 1:
            raise ValueError(f"expected at least 1 frame for a segment, found {self.min_frames}")


@dataclass(frozen=True)
class Path:
    """The best way through the frames, and the sum of scores along it."""

    spans: Spans
    score: float


def align_segments(scores: Scores, segments: Sequence[Segment]) -> Path | None:
    """``scores (T, C)`` of every class at every frame; None where the frames are too few for the segments that must be there.

    Two optional segments may not follow each other.  Of equally good paths one is taken, always the same.
    """
    chain = _Chain.of(segments)
    frames = len(scores)
    if frames == 0:
        return None
    back = np.zeros((frames, len(chain.labels)), np.uint8)
    best = np.full(len(chain.labels), -np.inf)
    best[chain.entries] = scores[0, chain.labels[chain.entries]]
    for frame in range(1, frames):
        stay = np.where(chain.is_last, best, -np.inf)
        step = np.concatenate([[-np.inf], best[:-1]])
        skip = np.where(chain.skips_from >= 0, best[chain.skips_from], -np.inf)
        ways = np.stack([stay, step, skip])
        back[frame] = ways.argmax(0)
        best = ways.max(0) + scores[frame, chain.labels]
    state = max(chain.exits, key=lambda exit_: best[exit_])
    if best[state] == -np.inf:
        return None
    return Path(chain.spans(back, state), float(best[state]))


@dataclass(frozen=True)
class _Chain:
    """Segments as states, one for each of the frames that a segment lasts at least; the last one of a segment may repeat."""

    labels: NDArray[np.int64]  # (S,)
    owners: NDArray[np.int64]  # (S,) the segment of each state
    is_last: NDArray[np.bool_]  # (S,)
    skips_from: NDArray[np.int64]  # (S,) the state before the optional segment that is left out to come here; -1 for none
    entries: list[int]  # where a path may begin
    exits: list[int]  # where it may end
    num_segments: int

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> _Chain:
        if any(one.optional and other.optional for one, other in pairwise(segments)):
            raise ValueError("expected no two optional segments in a row, found some")
        if all(segment.optional for segment in segments):
            raise ValueError("expected at least one segment that must be there, found none")
        sizes = np.array([segment.min_frames for segment in segments])
        ends = np.cumsum(sizes)
        owners = np.repeat(np.arange(len(segments)), sizes)
        skips_from = np.full(len(owners), -1)
        for index in range(2, len(segments)):
            if segments[index - 1].optional:
                skips_from[ends[index - 1]] = ends[index - 2] - 1
        last = len(owners) - 1
        return cls(
            labels=np.array([segment.label for segment in segments])[owners],
            owners=owners,
            is_last=np.isin(np.arange(len(owners)), ends - 1),
            skips_from=skips_from,
            entries=[0, *([int(ends[0])] if segments[0].optional else [])],
            exits=[last, *([int(ends[-2]) - 1] if segments[-1].optional else [])],
            num_segments=len(segments),
        )

    def spans(self, back: NDArray[np.uint8], state: int) -> Spans:
        """What the steps ``back (T, S)`` that end in ``state`` say of each segment."""
        found: Spans = [None] * self.num_segments
        for frame in range(len(back) - 1, -1, -1):
            owner = int(self.owners[state])
            before = found[owner]
            found[owner] = (frame, before[1] if before else frame + 1)
            way = back[frame, state]
            state = state - 1 if way == _STEP else int(self.skips_from[state]) if way == _SKIP else state
        return found


def spread(weights: Sequence[float], begin: float, end: float) -> list[tuple[float, float]]:
    """``begin..end`` shared out in order by ``weights``: what one would guess without listening."""
    edges = begin + (end - begin) * np.concatenate([[0.0], np.cumsum(weights) / np.sum(weights)])
    return [(float(one), float(other)) for one, other in pairwise(edges)]


def frame_labels(spans: Sequence[tuple[int, float, float]], *, num_frames: int, step: float, none: int) -> NDArray[np.int64]:
    """The class at the middle of each frame, of spans ``(class, begin, end)`` in seconds; ``none`` where there is no span."""
    labels = np.full(num_frames, none, np.int64)
    middles = (np.arange(num_frames) + 0.5) * step
    for label, begin, end in spans:
        first, last = np.searchsorted(middles, [begin, end])
        labels[first:last] = label
    return labels
