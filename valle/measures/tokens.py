"""What a stream of tokens looks like without any context: counts, entropy, the NLL of uni- and bigrams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]  # (V,)
Tokens = NDArray[Any]  # (T,) integers 0..V-1


def token_counts(streams: Iterable[Tokens], size: int) -> Counts:
    """How often each of ``size`` tokens occurs in all ``streams``."""
    counts = np.zeros(size, np.int64)
    for stream in streams:
        counts += np.bincount(_checked(stream, size), minlength=size)
    return counts


def entropy(counts: Counts) -> float:
    """Of the distribution of ``counts (V,)``, in nats; 0 without any."""
    total = counts.sum()
    if total == 0:
        return 0.0
    share = counts[counts > 0] / total
    return float(-(share * np.log(share)).sum())


def perplexity(counts: Counts) -> float:
    """How many tokens are in use, as many as if all were equally frequent: 1 to V."""
    return float(np.exp(entropy(counts)))


def unigram_nll(train: Counts, test: Counts) -> float:
    """Nats a token of ``test`` under the frequencies of ``train``, one added to each so that unseen tokens have some.

    Both ``(V,)``; NaN without test tokens.
    """
    if train.shape != test.shape:
        raise ValueError(f"expected counts of one vocabulary, found {train.shape} and {test.shape}")
    if test.sum() == 0:
        return float("nan")
    smoothed = train + 1.0
    return float(-(test * np.log(smoothed / smoothed.sum())).sum() / test.sum())


def bigram_nll(train: Sequence[Tokens], test: Sequence[Tokens], size: int) -> float:
    """Nats a token of ``test`` given the token before, under ``train``'s pairs backed off to its unigram.

    Witten-Bell weights; a stream's first token is scored by the unigram.  NaN without test tokens.
    """
    smoothed = token_counts(train, size) + 1.0
    unigram = smoothed / smoothed.sum()
    pairs = np.zeros((size, size), np.int64)
    for stream in train:
        np.add.at(pairs, (stream[:-1], stream[1:]), 1)
    seen, kinds = pairs.sum(1), (pairs > 0).sum(1)
    total, count = 0.0, 0
    for stream in test:
        stream = _checked(stream, size)
        if len(stream) == 0:
            continue
        before, after = stream[:-1], stream[1:]
        weight = np.where(seen > 0, kinds, 1)[before]
        probability = (pairs[before, after] + weight * unigram[after]) / (seen[before] + weight)
        total -= float(np.log(unigram[stream[0]]) + np.log(probability).sum())
        count += len(stream)
    return total / count if count else float("nan")


def repeated_share(stream: Tokens) -> float:
    """Share of tokens that equal the one before; 0 for fewer than two."""
    return float((stream[1:] == stream[:-1]).mean()) if len(stream) > 1 else 0.0


def _checked(stream: Tokens, size: int) -> Tokens:
    if len(stream) and (stream.min() < 0 or stream.max() >= size):
        raise ValueError(f"expected tokens 0..{size - 1}, found {stream.min()}..{stream.max()}")
    return stream


def divergence(one: Counts, other: Counts) -> float:
    """Jensen-Shannon divergence (Lin 1991) of the distributions of two counts ``(V,)``, in bits: 0 for the same, 1 for disjoint ones.

    NaN where either is empty.
    """
    if one.sum() == 0 or other.sum() == 0:
        return float("nan")
    shares = [counts / counts.sum() for counts in (one, other)]
    middle = (shares[0] + shares[1]) / 2
    present = [share > 0 for share in shares]
    nats = sum((share[some] * np.log(share[some] / middle[some])).sum() for share, some in zip(shares, present, strict=True)) / 2
    return float(nats / np.log(2))
