"""How often the right recording of a pair scores higher, and whether what knows nothing stands at one half."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from math import comb, isnan

from valle.evaluation.language.items import Pair, Side
from valle.measures.intervals import Estimate, bootstrap_mean

Score = Callable[[Side], float | None]
CERTAINTY = 0.999


def accuracy(pairs: Sequence[Pair], score: Score, *, seed: int = 0) -> Estimate:
    """Share of pairs whose right recording scores higher, ties one half: the mean over blocks, with a bootstrap over blocks.

    A pair that has no score on either side says nothing.
    """
    blocks: defaultdict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        hit = _hit(score(pair.right), score(pair.wrong))
        if hit is not None:
            blocks[pair.block].append(hit)
    return bootstrap_mean([sum(hits) / len(hits) for hits in blocks.values()], seed=seed)


def scored_pairs(pairs: Sequence[Pair], score: Score) -> int:
    """How many pairs have a score on both sides."""
    return sum(_hit(score(pair.right), score(pair.wrong)) is not None for pair in pairs)


@cache
def chance_interval(count: int, certainty: float = CERTAINTY) -> tuple[float, float]:
    """Shares within which ``count`` fair coins fall with at least ``certainty``, by the binomial distribution itself.

    >>> chance_interval(200)
    (0.385, 0.615)
    """
    if count == 0:
        return 0.0, 1.0
    total, below, heads = 2**count, 0, 0
    while True:  # the most heads from below that are together no likelier than half of what is left out
        below += comb(count, heads)
        if below > total * (1 - certainty) / 2:
            break
        heads += 1
    return heads / count, 1 - heads / count


def _hit(right: float | None, wrong: float | None) -> float | None:
    if right is None or wrong is None or isnan(right) or isnan(wrong):
        return None
    return 0.5 if abs(right - wrong) <= 1e-9 * max(1.0, abs(right)) else float(right > wrong)
