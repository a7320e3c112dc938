"""Trigrams against a slow twin."""

import random
from math import exp, log

import pytest

from valle.measures.ngrams import Trigram


def twin(sequences: list[list[str]], context: list[str], symbol: str) -> float:
    """Witten and Bell's interpolation, counted afresh for every question."""
    padded = [["<", "<", *sequence, ">"] for sequence in sequences]
    probability = 1 / (len({one for row in padded for one in row[2:]}) + 1)
    for order in range(3):
        wanted = context[2 - order :]
        after = [row[place] for row in padded for place in range(2, len(row)) if row[place - order : place] == wanted]
        if after:
            kinds = len(set(after))
            probability = (after.count(symbol) + kinds * probability) / (len(after) + kinds)
    return probability


def test_a_trigram_equals_its_slow_twin() -> None:
    rng = random.Random(0)
    sequences = [[rng.choice("abcd") for _ in range(rng.randrange(1, 7))] for _ in range(30)]
    trigram = Trigram(sequences)
    for sequence in ([*sequences[0]], ["d", "x", "a"], []):
        padded = ["<", "<", *sequence, ">"]
        expected = [-log(twin(sequences, padded[place - 2 : place], padded[place])) for place in range(2, len(padded))]
        assert trigram.each(sequence) == pytest.approx(expected) and trigram.nats(sequence) == pytest.approx(sum(expected))


def test_probabilities_of_all_symbols_and_the_unseen_one_add_up() -> None:
    trigram = Trigram([["a", "b"], ["a", "c", "b"]])
    total = sum(exp(-trigram.each(["a", symbol])[1]) for symbol in ("a", "b", "c", "unseen"))
    total += exp(-trigram.each(["a"])[1])  # the end
    assert total == pytest.approx(1.0)
