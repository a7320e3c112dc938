"""Means with their 95 % intervals: bootstrap over items, and Wilson's for shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.959964
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Items:
    """What each item adds to an estimate: the estimate is the sum of ``parts`` over the sum of ``wholes``.

    A plain mean has wholes of 1.  An item that says nothing has a NaN part or a whole of 0.
    """

    parts: tuple[float, ...]
    wholes: tuple[float, ...]


@dataclass(frozen=True)
class Estimate:
    """A mean, the 95 % interval around it, the number of items behind it and, where the estimate is made of items, these."""

    mean: float
    low: float
    high: float
    count: int
    items: Items | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, float | int]:
        """Without the items."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "count": self.count}

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.count})"


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean of ``values``, one an item, by the percentile bootstrap over items (Efron 1979); NaN items are left out.

    Fewer than two items have no spread: their interval is all that is known, NaN to NaN.
    """
    kept = Items(tuple(map(float, values)), (1.0,) * len(values))
    items = np.asarray(values, np.float64)
    items = items[~np.isnan(items)]
    if len(items) < 2:
        mean = float(items[0]) if len(items) else float("nan")
        return Estimate(mean=mean, low=float("nan"), high=float("nan"), count=len(items), items=kept)
    generator = np.random.default_rng(seed)
    means = np.concatenate([
        items[generator.integers(0, len(items), (100, len(items)))].mean(axis=1) for _ in range(NUM_RESAMPLES // 100)
    ])  # fmt: skip
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(mean=float(items.mean()), low=float(low), high=float(high), count=len(items), items=kept)


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


def jackknife(statistic: Callable[[NDArray[np.int64]], float], count: int) -> Estimate:
    """A statistic of ``count`` items with the normal interval of its jackknife error (Tukey 1958).

    For what is biased by repeated items, such as a divergence of counts, whose bootstrap interval may not hold its own value.
    ``statistic`` takes the indices of the items that are kept.
    """
    everything = np.arange(count)
    value = float(statistic(everything))
    if count < 2:
        return Estimate(mean=value, low=float("nan"), high=float("nan"), count=count)
    left = np.array([statistic(np.delete(everything, place)) for place in everything])
    reach = NORMAL_95 * sqrt((count - 1) / count * float(((left - left.mean()) ** 2).sum()))
    return Estimate(mean=value, low=value - reach, high=value + reach, count=count)


def ratio(parts: Sequence[float], wholes: Sequence[float], indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of ``parts`` over sum of ``wholes`` in every row of ``indices (R, count)``: ``(R,)``; NaN where the wholes are 0."""
    part, whole = (np.asarray(values, np.float64)[indices].sum(1) for values in (parts, wholes))
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole != 0)


def bootstrap_ratio(parts: Sequence[float], wholes: Sequence[float], *, seed: int = 0) -> Estimate:
    """Sum of ``parts`` over sum of ``wholes``, one of each an item, such as errors over words: items of more words weigh more."""
    if len(parts) != len(wholes):
        raise ValueError(f"expected a part and a whole of every item, found {len(parts)} and {len(wholes)}")
    estimate = bootstrap(lambda indices: ratio(parts, wholes, indices), len(parts), seed=seed)
    return replace(estimate, items=Items(tuple(map(float, parts)), tuple(map(float, wholes))))


def paired_difference(one: Items, other: Items, *, seed: int = 0) -> Estimate:
    """``other`` minus ``one`` by the paired bootstrap: the same items of both are drawn together, so that what is hard for both cancels.

    Items that say nothing in either are left out of both.
    """
    if len(one.parts) != len(other.parts):
        raise ValueError(f"expected the same items of both, found {len(one.parts)} and {len(other.parts)}")
    rows = np.array([one.parts, one.wholes, other.parts, other.wholes], np.float64)
    rows = rows[:, np.isfinite(rows).all(0)]

    def difference(indices: NDArray[np.int64]) -> NDArray[np.float64]:
        return ratio(rows[2].tolist(), rows[3].tolist(), indices) - ratio(rows[0].tolist(), rows[1].tolist(), indices)

    return bootstrap(difference, rows.shape[1], seed=seed)


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


def share_of(hits: Sequence[bool]) -> Estimate:
    """:func:`share` of the items that hit, which it keeps."""
    return replace(share(sum(hits), len(hits)), items=Items(tuple(map(float, hits)), (1.0,) * len(hits)))
