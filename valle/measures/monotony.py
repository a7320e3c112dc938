"""How steadily one thing follows another: whether pieces of a text find their likest places in speech in the order of the text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def monotony(similarities: NDArray[Any]) -> float:
    """Kendall's tau-b of pieces with the places that resemble them most, by ``similarities (pieces, places)``; -1 to 1, 0 by chance.

    >>> monotony(np.eye(4)), monotony(np.eye(4)[::-1])
    (1.0, -1.0)
    """
    from scipy.stats import kendalltau

    places = np.asarray(similarities).argmax(1)
    if len(places) < 2 or (places == places[0]).all():
        return 0.0
    return round(float(kendalltau(np.arange(len(places)), places).statistic), 6)
