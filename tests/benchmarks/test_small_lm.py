"""The small language model of the table of units: certain things cost nothing, uncertain things what they must."""

import numpy as np
import pytest

from benchmarks.small_lm import small_lm_bits


def test_what_repeats_costs_little_and_what_is_drawn_anew_all_of_it() -> None:
    rng = np.random.default_rng(0)
    periodic = [np.arange(120) % 8 for _ in range(12)]
    drawn = [rng.integers(8, size=120) for _ in range(40)]
    bits = {name: small_lm_bits(units[:-4], units[-4:], num_units=8, rate_hz=25, steps=60) for name, units in
            (("periodic", periodic), ("drawn", drawn))}  # fmt: skip
    assert bits["periodic"] < 3
    assert bits["drawn"] == pytest.approx(25 * 3, rel=0.1)
    assert bits["drawn"] == small_lm_bits(drawn[:-4], drawn[-4:], num_units=8, rate_hz=25, steps=60)
