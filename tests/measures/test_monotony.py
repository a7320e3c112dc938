"""Whether pieces find their places in order."""

from __future__ import annotations

import numpy as np

from valle.measures.monotony import monotony


def test_in_order_against_the_order_and_by_chance() -> None:
    rising = np.eye(8).repeat(2, 1)
    assert monotony(rising) == 1.0 and monotony(rising[::-1]) == -1.0
    rng = np.random.default_rng(0)
    assert abs(np.mean([monotony(rng.standard_normal((12, 30))) for _ in range(200)])) < 0.05


def test_one_piece_or_one_place_has_no_order() -> None:
    assert monotony(np.ones((1, 5))) == 0.0 and monotony(np.ones((4, 5))) == 0.0
