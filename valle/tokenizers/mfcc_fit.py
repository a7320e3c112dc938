"""Fit an MFCC k-means tokenizer on a corpus, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from valle.errors import UserError
from valle.tokenizers.mfcc import NUM_FEATURES, MfccConfig, MfccKMeans

MAX_FRAMES = 400_000  # 4.4 hours at 25 Hz; 62 MB


def fit_mfcc_kmeans(waveforms: Iterable[NDArray[np.float32]], config: MfccConfig, *, seed: int = 0) -> MfccKMeans:
    """K-means over a uniform sample (a reservoir) of the unit-rate frames of ``waveforms``, each ``(T,)`` at the config's rate.

    Features are standardised per dimension by the sample's mean and deviation, which become part of the tokenizer.
    """
    frames = sample_frames(waveforms, config, seed=seed)
    if len(frames) < 10 * config.num_units:
        raise UserError(
            f"k-means with {config.num_units} units needs at least {10 * config.num_units} frames "
            f"({10 * config.num_units * config.hop_length / config.sample_rate:.0f} s of audio), found {len(frames)}; "
            "give more audio, fewer units, or use the bundled tokenizer"
        )
    tokenizer = MfccKMeans(config)
    mean, deviation = frames.mean(0), frames.std(0) + 1e-3
    model = MiniBatchKMeans(config.num_units, batch_size=8192, n_init=3, max_iter=60, random_state=seed)
    model.fit((frames - mean) / deviation)
    tokenizer.mean.copy_(torch.from_numpy(mean))
    tokenizer.deviation.copy_(torch.from_numpy(deviation))
    tokenizer.centroids.copy_(torch.from_numpy(np.asarray(model.cluster_centers_, dtype=np.float32)))
    return tokenizer


def sample_frames(waveforms: Iterable[NDArray[np.float32]], config: MfccConfig, *, seed: int) -> NDArray[np.float32]:
    """A reservoir of at most ``MAX_FRAMES`` frames ``(N, 39)``, every frame of the corpus as likely as any other."""
    rng = np.random.default_rng(seed)
    extractor = MfccKMeans(config).mfcc
    reservoir = np.empty((MAX_FRAMES, NUM_FEATURES), np.float32)
    seen = 0
    for wav in waveforms:
        features = extractor(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))[0].numpy()
        positions = np.arange(seen, seen + len(features))
        slots = np.where(positions < MAX_FRAMES, positions, (rng.random(len(features)) * (positions + 1)).astype(np.int64))
        kept = slots < MAX_FRAMES
        reservoir[slots[kept]] = features[kept]
        seen += len(features)
    return reservoir[: min(seen, MAX_FRAMES)]
