"""Means with their 95 % intervals: bootstrap over items, and Wilson's for shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.959964
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean, the 95 % interval around it, and the number of items behind it."""

    mean: float
    low: float
    high: float
    count: int

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.count})"


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean of ``values``, one an item, by the percentile bootstrap over items (Efron 1979); NaN items are left out.

    Fewer than two items have no spread: their interval is all that is known, NaN to NaN.
    """
    items = np.asarray(values, np.float64)
    items = items[~np.isnan(items)]
    if len(items) < 2:
        return Estimate(mean=float(items[0]) if len(items) else float("nan"), low=float("nan"), high=float("nan"), count=len(items))
    generator = np.random.default_rng(seed)
    means = np.concatenate([
        items[generator.integers(0, len(items), (100, len(items)))].mean(axis=1) for _ in range(NUM_RESAMPLES // 100)
    ])  # fmt: skip
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(mean=float(items.mean()), low=float(low), high=float(high), count=len(items))


def bootstrap(statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], count: int, *, seed: int = 0) -> Estimate:
    """A statistic of ``count`` items by the percentile bootstrap over items, for what is no plain mean.

    ``statistic`` takes the indices of ``R`` resamples ``(R, count)`` and gives ``(R,)``; a resample of which it is NaN says nothing.
    Fewer than two items have no spread: NaN to NaN.
    """
    if count == 0:
        return Estimate(mean=float("nan"), low=float("nan"), high=float("nan"), count=0)
    whole = float(statistic(np.arange(count)[None])[0])
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([statistic(generator.integers(0, count, (100, count))) for _ in range(NUM_RESAMPLES // 100)])
    drawn = drawn[np.isfinite(drawn)]
    if count < 2 or len(drawn) == 0:
        return Estimate(mean=whole, low=float("nan"), high=float("nan"), count=count)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(mean=whole, low=float(low), high=float(high), count=count)


def ratio(parts: Sequence[float], wholes: Sequence[float], indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of ``parts`` over sum of ``wholes`` in every row of ``indices (R, count)``: ``(R,)``; NaN where the wholes are 0."""
    part, whole = (np.asarray(values, np.float64)[indices].sum(1) for values in (parts, wholes))
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole != 0)


def bootstrap_ratio(parts: Sequence[float], wholes: Sequence[float], *, seed: int = 0) -> Estimate:
    """Sum of ``parts`` over sum of ``wholes``, one of each an item, such as errors over words: items of more words weigh more."""
    if len(parts) != len(wholes):
        raise ValueError(f"expected a part and a whole of every item, found {len(parts)} and {len(wholes)}")
    return bootstrap(lambda indices: ratio(parts, wholes, indices), len(parts), seed=seed)


def share(hits: int, count: int) -> Estimate:
    """A share of ``count`` items with Wilson's interval (1927), which holds at 0, at 1 and for few items."""
    if not 0 <= hits <= count:
        raise ValueError(f"expected hits within 0..{count}, found {hits}")
    if count == 0:
        return Estimate(mean=float("nan"), low=0.0, high=1.0, count=0)
    z2 = NORMAL_95**2
    mean = hits / count
    middle = (mean + z2 / (2 * count)) / (1 + z2 / count)
    reach = NORMAL_95 * sqrt(mean * (1 - mean) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return Estimate(mean=mean, low=min(mean, max(0.0, middle - reach)), high=max(mean, min(1.0, middle + reach)), count=count)
