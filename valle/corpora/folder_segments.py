"""Where to cut a long recording: at its quietest places, or at even distances."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from valle.corpora.folder_decode import Levels

SILENCE_POWER = 1e-6  # -60 dB of full scale
SMOOTHING_SECONDS = 0.2

Segment = tuple[int, int]  # first sample, and one past the last


class Cutting(StrEnum):
    """How long recordings are cut; members are named as users write them."""

    silence = "silence"
    windows = "windows"


def segments_of(levels: Levels, *, min_seconds: float, max_seconds: float, cutting: Cutting) -> list[Segment]:
    """Pieces that cover the whole recording, of ``min_seconds`` to ``max_seconds``, which is at least twice as much.

    A recording that is short enough stays whole.
    """
    if levels.seconds <= max_seconds:
        return [(0, levels.num_samples)]
    if cutting is Cutting.windows:
        count = ceil(levels.seconds / max_seconds)
        edges = [round(levels.num_samples * number / count) for number in range(count + 1)]
    else:
        edges = _quiet_edges(levels, min_seconds, max_seconds)
    return list(pairwise(edges))


def is_silent(levels: Levels, segment: Segment) -> bool:
    """No 20 ms of it are louder than -60 dB of full scale."""
    first, last = segment[0] // levels.hop, ceil(segment[1] / levels.hop)
    return float(levels.power[first:last].max(initial=0.0)) < SILENCE_POWER


def _quiet_edges(levels: Levels, min_seconds: float, max_seconds: float) -> list[int]:
    """Go through the recording, each time as far as the quietest place that leaves pieces within both limits."""
    loudness = _smoothed(levels.power, max(1, round(SMOOTHING_SECONDS * levels.sample_rate / levels.hop)))
    per_second = levels.sample_rate / levels.hop
    longest, shortest = int(max_seconds * per_second), ceil(max(min_seconds, max_seconds / 2) * per_second)
    rest = ceil(min_seconds * per_second)
    edges, here = [0], 0
    while levels.num_samples - here * levels.hop > max_seconds * levels.sample_rate:
        stop = min(here + longest, levels.num_samples // levels.hop - rest)
        start = min(here + shortest, stop)
        here = start + int(np.argmin(loudness[start : stop + 1]))
        edges.append(here * levels.hop)
    return [*edges, levels.num_samples]


def _smoothed(power: NDArray[np.float32], width: int) -> NDArray[np.float64]:
    """Mean of ``width`` neighbours, half on each side; the place between two values is the right one's."""
    sums = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    places = np.arange(len(power))
    first, last = np.maximum(places - width // 2, 0), np.minimum(places + (width + 1) // 2, len(power))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means
