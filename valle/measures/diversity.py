"""Does a model say the same again and again?  Self-BLEU over samples (Texygen, Zhu et al. 2018) and the share of distinct tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from math import exp, log

LONGEST = 4  # tokens of an n-gram in BLEU


def distinct_share(sequence: Sequence[Hashable]) -> float:
    """Different tokens of ``sequence`` over all its tokens; NaN without any.

    >>> distinct_share([1, 2, 1, 2])
    0.5
    """
    return len(set(sequence)) / len(sequence) if sequence else float("nan")


def self_bleu(sequences: Sequence[Sequence[Hashable]], *, longest: int = LONGEST) -> list[float]:
    """BLEU (Papineni et al. 2002) of each sequence with all others as its references: 0 where nothing is shared, 1 for copies.

    Geometric mean of the precisions of n-grams of 1 to ``longest`` tokens, counts clipped by the greatest count in any one reference,
    times the brevity penalty against the reference of the nearest length (the shorter of two).  No smoothing: an n-gram length
    without a match makes the score 0.  A sequence of fewer than ``longest`` tokens has no score (NaN), and neither has a single one.
    """
    usable = [place for place, sequence in enumerate(sequences) if len(sequence) >= longest]
    scores = [float("nan")] * len(sequences)
    if len(usable) < 2:
        return scores
    logs = dict.fromkeys(usable, 0.0)
    for size in range(1, longest + 1):
        counts = {place: Counter(_ngrams(sequences[place], size)) for place in usable}
        most = _two_largest(counts)
        for place, own in counts.items():
            clipped = sum(min(count, _elsewhere(most[ngram], place)) for ngram, count in own.items())
            logs[place] += log(clipped / own.total()) / longest if clipped else float("-inf")
    lengths = {place: len(sequences[place]) for place in usable}
    for place in usable:
        nearest = min((abs(length - lengths[place]), length) for other, length in lengths.items() if other != place)[1]
        penalty = min(0.0, 1 - nearest / lengths[place])
        scores[place] = exp(logs[place] + penalty)
    return scores


def _ngrams(sequence: Sequence[Hashable], size: int) -> Iterator[tuple[Hashable, ...]]:
    return (tuple(sequence[start : start + size]) for start in range(len(sequence) - size + 1))


def _two_largest(counts: dict[int, Counter[tuple[Hashable, ...]]]) -> dict[tuple[Hashable, ...], tuple[int, int, int]]:
    """Of every n-gram: its largest count, in which sequence, and its largest count in any other sequence."""
    most: dict[tuple[Hashable, ...], tuple[int, int, int]] = {}
    for place, own in counts.items():
        for ngram, count in own.items():
            first, where, second = most.get(ngram, (0, -1, 0))
            most[ngram] = (count, place, first) if count > first else (first, where, max(second, count))
    return most


def _elsewhere(most: tuple[int, int, int], place: int) -> int:
    first, where, second = most
    return second if where == place else first
