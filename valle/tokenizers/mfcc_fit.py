"""Fit an MFCC k-means tokenizer on a corpus, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from valle.tokenizers.kmeans_fit import ALONE, Processes, fit_features
from valle.tokenizers.mfcc import Mfcc, MfccConfig, MfccKMeans


def fit_mfcc_kmeans(
    waveforms: Iterable[NDArray[np.float32]],
    config: MfccConfig,
    *,
    seed: int = 0,
    standardise: bool = True,
    processes: Processes = ALONE,
) -> MfccKMeans:
    """K-means over a uniform sample of the unit-rate frames of ``waveforms``, each ``(T,)`` at the config's rate.

    Each of several ``processes`` gives a share of the waveforms, and all return the same tokenizer.
    """
    extractor = Mfcc(config)
    features = (extractor(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))[0].numpy() for wav in waveforms)
    seconds = config.hop_length / config.sample_rate
    fit = fit_features(features, config.num_units, seed=seed, seconds_per_frame=seconds, standardise=standardise, processes=processes)
    tokenizer = MfccKMeans(config)
    for buffer, values in ((tokenizer.mean, fit.mean), (tokenizer.deviation, fit.deviation), (tokenizer.centroids, fit.centroids)):
        buffer.copy_(torch.from_numpy(values))
    return tokenizer
