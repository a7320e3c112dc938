"""What units betray of the speaker: a linear classifier on how often each occurs in an utterance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from valle.measures.intervals import Estimate, share
from valle.measures.tokens import Tokens


@dataclass(frozen=True)
class ProbeScore:
    """Accuracy on utterances that the probe was not fitted on, beside its two controls."""

    accuracy: Estimate
    permuted: Estimate  # fitted on speakers dealt anew among the utterances
    chance: float  # of always naming the speaker who has most of the tested utterances
    num_speakers: int


def unit_histograms(streams: Sequence[Tokens], size: int) -> NDArray[np.float64]:
    """``(N, size)``: the square roots of each unit's share of an utterance, so that frequent units do not drown the rest."""
    counts = np.stack([np.bincount(stream, minlength=size) for stream in streams]).astype(np.float64)
    return np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))


def speaker_probe(
    histograms: NDArray[np.float64], speakers: Sequence[str], sessions: Sequence[str] | None = None, *, seed: int = 0
) -> ProbeScore | None:
    """Fit on half of every speaker's sessions, test on the others; None with fewer than two speakers of two sessions or more.

    A session is what was recorded in one place at one time (a chapter): within one, the room and the text tell the speaker as
    well as the voice does.  Without ``sessions``, each utterance is one.
    """
    names = np.asarray(speakers)
    fitted, tested = _halves(names, np.arange(len(names)).astype(str) if sessions is None else np.asarray(sessions), seed)
    if len(np.unique(names[fitted])) < 2:
        return None
    rng = np.random.default_rng(seed)
    hits = _hits(histograms, names[fitted], names[tested], fitted, tested)
    dealt = _hits(histograms, rng.permutation(names[fitted]), names[tested], fitted, tested)
    _, counts = np.unique(names[tested], return_counts=True)
    return ProbeScore(
        accuracy=share(hits, len(tested)), permuted=share(dealt, len(tested)), chance=float(counts.max() / len(tested)),
        num_speakers=len(counts),
    )  # fmt: skip


def fit_probe(histograms: NDArray[np.float64], speakers: NDArray[np.str_]) -> LogisticRegression:
    """The minimum of ``sum of cross entropies + |w|^2 / 20`` over the weights (without the biases)."""
    with warnings.catch_warnings():  # many speakers of two utterances each are no regression
        warnings.filterwarnings("ignore", "The number of unique classes")
        return LogisticRegression(C=10.0, max_iter=2000, tol=1e-6).fit(histograms, speakers)


def _hits(histograms, fit_names, test_names, fitted, tested) -> int:  # type: ignore[no-untyped-def]
    return int((fit_probe(histograms[fitted], fit_names).predict(histograms[tested]) == test_names).sum())


def _halves(names: NDArray[np.str_], sessions: NDArray[np.str_], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    fitted, tested = [], []
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        order = rng.permutation(list(dict.fromkeys(sessions[own].tolist())))
        if len(order) > 1:
            is_fitted = np.isin(sessions[own], order[: len(order) // 2])
            fitted += own[is_fitted].tolist()
            tested += own[~is_fitted].tolist()
    return np.array(sorted(fitted), np.int64), np.array(sorted(tested), np.int64)
