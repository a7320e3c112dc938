"""A watermark in one second of sound: scores of windows, and the score above which a window counts as marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from valle.audio import Waveform
from valle.marks import find
from valle.marks.pattern import BANDS, PUBLIC_KEY

FALSE_ALARMS = 1e-3  # a second
WINDOW_FRAMES, STEP_FRAMES = 125, 31  # 1 s; about a quarter
CROP_STEP = 11003  # samples between crops: no whole number of cells
LEAST_WINDOWS = 10000  # without a mark, below which their quantile says too little


@dataclass(frozen=True)
class Threshold:
    """``z`` above which a window of one second counts as marked, and where it is from."""

    z: float
    source: str


def window_scores(wav: Waveform) -> list[float]:
    """z of every window of 1 s of ``wav (T,)`` at ``find.RATE`` Hz, a quarter of a second apart."""
    evidence = np.concatenate([np.zeros((0, BANDS)), *find.evidence_blocks([wav])])
    last = len(evidence) - WINDOW_FRAMES
    return [find.folded(evidence[first : first + WINDOW_FRAMES]).z(PUBLIC_KEY) for first in range(0, last + 1, STEP_FRAMES)]


def crop_scores(wav: Waveform) -> list[float]:
    """z of crops of 1 s of ``wav (T,)`` at ``find.RATE`` Hz, each by itself, at places that have nothing to do with the pattern."""
    crops = (wav[first : first + find.RATE] for first in range(CROP_STEP // 2, len(wav) - find.RATE, CROP_STEP))
    return [find.folded(next(find.evidence_blocks([crop]))).z(PUBLIC_KEY) for crop in crops]


def window_threshold(unmarked: Iterable[Waveform], most_windows: int) -> Threshold:
    """One false alarm in a thousand seconds: the quantile of unmarked windows, or where there are too few, a bound that needs none.

    ``unmarked``: recordings ``(T,)`` at ``find.RATE`` Hz of speakers that are not judged, read until there are ``most_windows``.  The bound
    is Hoeffding's for all beginnings of the pattern and sets of bands (``valle/marks/find.py``), and is higher than the quantile.
    """
    scores, files = list[float](), 0
    for wav in unmarked if most_windows >= LEAST_WINDOWS else ():
        if len(scores) >= most_windows:
            break
        scores += window_scores(wav)
        files += 1
    if len(scores) >= LEAST_WINDOWS:
        return Threshold(
            float(np.quantile(scores, 1 - FALSE_ALARMS)),
            f"the {100 * (1 - FALSE_ALARMS):g} % quantile of {len(scores)} overlapping windows of {files} unmarked recordings of train",
        )
    tries = find.PERIOD * len(find.BAND_SETS)
    return Threshold(sqrt(2 * log(tries / FALSE_ALARMS)), f"Hoeffding's bound, without {LEAST_WINDOWS} unmarked windows to draw it from")
