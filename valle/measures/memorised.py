"""How much of what a model says stands in its training data: n-grams and the longest runs that are found there."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # tokens of the training data that are searched at once: about 30 MB


def ngrams_found(queries: Sequence[Sequence[Hashable]], texts: Iterable[Sequence[Hashable]], size: int) -> list[tuple[int, int]]:
    """Of each query's n-grams of ``size`` tokens, how many stand in one of ``texts``, and how many there are.

    ``texts`` are read once, and only n-grams of queries are kept.

    >>> ngrams_found([[1, 2, 3]], [[0, 1, 2], [2, 4]], 2)
    [(1, 2)]
    """
    rows = [[tuple(query[start : start + size]) for start in range(len(query) - size + 1)] for query in queries]
    wanted = {ngram for row in rows for ngram in row}
    found: set[tuple[Hashable, ...]] = set()
    for text in texts:
        found.update(wanted.intersection(tuple(text[start : start + size]) for start in range(len(text) - size + 1)))
    return [(sum(ngram in found for ngram in row), len(row)) for row in rows]


def longest_runs_found(queries: Sequence[NDArray[np.int64]], texts: Iterable[NDArray[np.int64]], *, block: int = BLOCK) -> list[int]:
    """The longest stretch of each query ``(T,)`` that stands in one of ``texts`` without a gap, in tokens; all tokens from 0.

    Stretches are compared by hashes of 64 bits, one length after another, a block of texts at a time.
    """
    tokens = np.random.default_rng(0).integers(1, 1 << 63, 1 << 16, dtype=np.uint64)  # a random number for every token
    hashed = [tokens[query] for query in queries]
    best = [0] * len(queries)
    for found in _blocks(texts, block):
        _lengthen(best, hashed, np.where(found >= 0, tokens[found], 0).astype(np.uint64))  # no token is 0, so no stretch spans two texts
    return best


def _lengthen(best: list[int], queries: Sequence[NDArray[np.uint64]], text: NDArray[np.uint64]) -> None:
    """Raise ``best`` by what stands in one block; a stretch of n+1 tokens can only be found where one of n is."""
    open_queries = set(range(len(queries)))
    length = 1
    while open_queries:
        known = np.unique(_hashes(text, length))
        for number in list(open_queries):
            own = _hashes(queries[number], length)
            if len(own) and len(known) and (known[np.searchsorted(known, own).clip(max=len(known) - 1)] == own).any():
                best[number] = max(best[number], length)
            else:
                open_queries.discard(number)
        length += 1


def _hashes(values: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A polynomial modulo 2**64 of every stretch of ``length`` values: ``(T - length + 1,)``."""
    if len(values) < length:
        return np.zeros(0, np.uint64)
    total, power = np.zeros(len(values) - length + 1, np.uint64), 1
    for place in range(length):
        total += values[place : place + len(total)] * np.uint64(power)
        power = power * 6364136223846793005 % (1 << 64)
    return total


def _blocks(texts: Iterable[NDArray[np.int64]], size: int) -> Iterator[NDArray[np.int64]]:
    """Texts side by side, -1 after each, at least ``size`` tokens at once but for the last block."""
    held: list[NDArray[np.int64]] = []
    count = 0
    for text in texts:
        held += [text, np.array([-1])]
        count += len(text) + 1
        if count >= size:
            yield np.concatenate(held)
            held, count = [], 0
    if held:
        yield np.concatenate(held)
