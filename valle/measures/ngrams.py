"""Trigrams of anything: the control that knows three symbols in a row and nothing further."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from math import log

_EDGE = object()  # what stands twice before a sequence and once after it


class Trigram:
    """Interpolated with bigram, unigram and one unseen symbol by Witten and Bell's weights (1991).

    >>> trigram = Trigram([("the", "red", "lamp"), ("the", "red", "box")])
    >>> trigram.nats(("the", "red", "box")) < trigram.nats(("red", "the", "box"))
    True
    """

    def __init__(self, sequences: Iterable[Sequence[Hashable]]) -> None:
        """``sequences``: what it is fitted on."""
        self._counts: list[defaultdict[tuple[object, ...], Counter[object]]] = [defaultdict(Counter) for _ in range(3)]
        for sequence in sequences:
            padded = [_EDGE, _EDGE, *sequence, _EDGE]
            for place in range(2, len(padded)):
                for order in range(3):
                    self._counts[order][tuple(padded[place - order : place])][padded[place]] += 1
        self._totals = [{context: sum(after.values()) for context, after in counts.items()} for counts in self._counts]
        self._kinds = len(self._counts[0][()]) + 1

    def nats(self, sequence: Sequence[Hashable]) -> float:
        """Negative log-likelihood of the whole ``sequence`` and its end."""
        return sum(self.each(sequence))

    def each(self, sequence: Sequence[Hashable]) -> list[float]:
        """Nats of every symbol and of the end."""
        padded = [_EDGE, _EDGE, *sequence, _EDGE]
        return [-log(self._probability(padded[place - 2 : place], padded[place])) for place in range(2, len(padded))]

    def _probability(self, context: Sequence[object], symbol: object) -> float:
        probability = 1 / self._kinds
        for order in range(3):
            key = tuple(context[2 - order :])
            if total := self._totals[order].get(key, 0):
                after = self._counts[order][key]
                probability = (after[symbol] + len(after) * probability) / (total + len(after))
        return probability
