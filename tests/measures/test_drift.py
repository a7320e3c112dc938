from math import isnan

import numpy as np
import pytest

from valle.measures.drift import level_drift, seconds_of, spectrum_drift

RATE = 16000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def test_the_level_of_each_second_is_told_in_decibels_against_the_prompt() -> None:
    fading = np.concatenate([noise(1), 0.5 * noise(1), np.zeros(RATE, np.float32), noise(0.5)])
    same, half, nothing = level_drift(fading, noise(3, seed=1), RATE)
    assert same == pytest.approx(0, abs=0.1) and half == pytest.approx(-6.02, abs=0.1) and isnan(nothing)
    assert len(seconds_of(fading, RATE)) == 3


def test_the_spectrum_does_not_see_the_level_and_sees_a_filter() -> None:
    prompt, same = noise(3, seed=1), noise(1)
    duller = np.convolve(same, np.ones(4) / 4, "same").astype(np.float32)
    near, quiet, far = spectrum_drift(np.concatenate([same, 0.01 * same, duller]), prompt, RATE)
    assert near < 1 and quiet == pytest.approx(near, abs=1e-3) and far > 5
    assert isnan(spectrum_drift(np.zeros(RATE, np.float32), prompt, RATE)[0])
