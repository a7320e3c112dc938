"""A unit BPE of few units, fitted in a moment on utterances with sequences that return."""

from __future__ import annotations

import random
from functools import cache

from valle.tokenizers.unit_bpe import UnitBpe, fit_unit_bpe


def utterances(*, num_units: int, count: int = 120, seed: int = 0) -> list[list[int]]:
    """Words of a few units, each unit held for a frame or more, one after another."""
    rng = random.Random(seed)
    words = [[rng.randrange(num_units) for _ in range(rng.randint(2, 4))] for _ in range(2 * num_units)]

    def spoken() -> list[int]:
        said = [unit for word in rng.choices(words, k=6) for unit in word]
        return [unit for unit in said for _ in range(rng.choice([1, 1, 2, 3]))]

    return [spoken() for _ in range(count)]


@cache
def tiny_bpe(num_units: int = 7, vocab_size: int = 40) -> UnitBpe:
    return fit_unit_bpe(utterances(num_units=num_units), num_units=num_units, vocab_size=vocab_size)
