"""Units that say less of the voice: clusters in directions in which a change of voice moves states as little in one as in another.

What a change of voice does to the states of an encoder is known without any labels: hear the same audio as someone else (frequencies,
tilt and loudness changed) and subtract.  The inverse square root of the covariance of these differences whitens them, as
within-class covariance normalisation does for speakers' own variation (Hatch et al. 2006), here the other way round: what a voice
changes much counts less in the distance to a centroid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from valle.audio import Waveform
from valle.errors import UserError
from valle.tokenizers.front_ends import MelFrontEnd
from valle.tokenizers.hubert import HubertTokenizer
from valle.tokenizers.kmeans_fit import Frames, KMeansFit, fit_kmeans, sample_frames
from valle.training.speech_encoder_fit import batches, pad

SHRINKAGE = 0.1  # of the mean variance, added to all: directions that no voice moves would count for everything


class VoiceSpread:
    """The second moments ``(D, D)`` of what a change of voice does to states."""

    def __init__(self, dim: int) -> None:
        self._sum, self._count = np.zeros((dim, dim)), 0

    def add(self, difference: Frames) -> None:
        """``difference (T, D)`` between states of the same audio in two voices."""
        wide = difference.astype(np.float64)
        self._sum += wide.T @ wide
        self._count += len(wide)

    def whitening(self, deviation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Directions ``(D, D)`` of states that are divided by ``deviation (D,)`` before."""
        spread = self._sum / max(1, self._count) / np.outer(deviation, deviation)
        values, vectors = np.linalg.eigh(spread)
        return np.asarray(vectors / np.sqrt(np.maximum(values, 0) + SHRINKAGE * values.mean()), dtype=np.float32)


def fit_voice_whitened(
    tokenizer: HubertTokenizer, waveforms: Iterable[Waveform], *, voice_change: float, seed: int, device: torch.device | None = None
) -> None:
    """Statistics, directions and clusters on ``waveforms``, each ``(T,)`` at 16 kHz; leaves the tokenizer on the CPU.

    ``voice_change`` is the largest share by which frequencies are scaled.  Every second batch is heard in another voice too.
    """
    if not isinstance(tokenizer.encoder.front_end, MelFrontEnd):
        raise UserError("--voice-change is for encoders that hear mel spectra, found one that hears waveforms; leave it out")
    tokenizer.to(device or torch.device("cpu"))
    spread = VoiceSpread(len(tokenizer.mean))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        frames = sample_frames(_states(tokenizer, waveforms, voice_change, spread), seed=seed)
    mean, deviation = frames.mean(0), frames.std(0) + 1e-3
    directions = spread.whitening(deviation)
    seconds = tokenizer.hop_length / tokenizer.sample_rate
    fit = fit_kmeans((frames - mean) / deviation @ directions, tokenizer.num_units, seed=seed, seconds_per_frame=seconds, standardise=False)
    tokenizer.cpu().take_clusters(KMeansFit(mean, deviation, fit.centroids))
    tokenizer.directions.copy_(torch.from_numpy(directions))


@torch.no_grad()
def _states(tokenizer: HubertTokenizer, waveforms: Iterable[Waveform], voice_change: float, spread: VoiceSpread) -> Iterator[Frames]:
    encoder, device = tokenizer.encoder, tokenizer.mean.device
    for number, batch in enumerate(batches(waveforms, tokenizer.sample_rate)):
        wav, lengths = pad(batch)
        counts = [tokenizer.num_tokens(len(row)) for row in batch]
        states = tokenizer.hidden(wav.to(device), lengths.to(device)).cpu()
        if number % 2 == 0:
            encoder.voice_change, encoder.training = voice_change, True
            try:
                changed = tokenizer.hidden(wav.to(device), lengths.to(device)).cpu()
            finally:
                encoder.voice_change, encoder.training = 0.0, False
            for row, count in zip(changed - states, counts, strict=True):
                spread.add(row[:count].numpy())
        yield from (row[:count].numpy() for row, count in zip(states, counts, strict=True))
