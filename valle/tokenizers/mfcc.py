"""Units from MFCC and k-means: the smallest semantic tokenizer, and HuBERT's first teacher (Hsu et al. 2021, III-B).

Features are 13 cepstra with first and second differences, standardised by fixed statistics of the training
corpus, never by those of the utterance: a prompt then has the same units as the same seconds of the whole file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import cos, pi, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.measures.mel import mel_filters
from valle.modules.masks import valid_mask
from valle.tokenizers.base import SemanticTokenizer
from valle.tokenizers.kmeans_fit import ALONE, Processes, fit_features

NUM_CEPSTRA = 13
NUM_FEATURES = 3 * NUM_CEPSTRA
SLOPE_REACH = 4  # frames on each side from which a difference is estimated


@dataclass(frozen=True)
class MfccConfig:
    """Sizes of the tokenizer; samples for ``hop_length`` and ``n_fft``.

    Cepstra are taken every ``hop_length / frames_per_unit`` samples and smoothed over two units' time before one
    in ``frames_per_unit`` is kept, so that a slow grid still hears all of the audio.
    """

    name: str = "mfcc-kmeans"
    sample_rate: int = 16000
    hop_length: int = 640
    frames_per_unit: int = 4
    n_fft: int = 400
    num_mels: int = 40
    num_units: int = 200

    def __post_init__(self) -> None:
        if self.frames_per_unit % 2 or self.hop_length % self.frames_per_unit:
            raise UserError(
                f"an even number of frames must divide a unit's {self.hop_length} samples, found {self.frames_per_unit} frames a unit"
            )


class Mfcc(nn.Module):
    """Cepstra and their slopes at the unit rate, before standardisation."""

    window: Tensor
    filters: Tensor
    cosines: Tensor
    kernels: Tensor

    def __init__(self, config: MfccConfig) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.stride = config.n_fft, config.hop_length, config.frames_per_unit
        self.frame_hop = config.hop_length // config.frames_per_unit
        cosines = [[cos(pi * k * (m + 0.5) / config.num_mels) for k in range(NUM_CEPSTRA)] for m in range(config.num_mels)]
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("filters", mel_filters(config.sample_rate, config.n_fft, config.num_mels), persistent=False)
        self.register_buffer("cosines", torch.tensor(cosines) * sqrt(2 / config.num_mels), persistent=False)
        self.register_buffer("kernels", _kernels(config.frames_per_unit), persistent=False)
        self.edge = (self.kernels.shape[-1] - self.stride) // 2  # frames before and after a unit's own
        self.side = (config.n_fft - self.frame_hop) // 2  # samples before and after a frame's own

    @property
    def context(self) -> int:
        """Samples on each side of a unit's own on which its features depend."""
        return self.edge * self.frame_hop + self.side

    def forward(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """``wav (B, T)``, ``lengths (B,)`` samples -> ``(B, ceil(T / hop), 39)``; past the ends stands silence."""
        wav = wav * valid_mask(lengths, wav.shape[1])
        wav = F.pad(wav, (self.context, -wav.shape[1] % self.hop_length + self.context))
        spectrum = torch.fft.rfft(wav.unfold(1, self.n_fft, self.frame_hop) * self.window)
        cepstra = (spectrum.abs().square() @ self.filters).clamp(min=1e-6).log() @ self.cosines  # (B, T_f, 13)
        features = F.conv1d(cepstra.transpose(1, 2).flatten(0, 1)[:, None], self.kernels, stride=self.stride)  # (B * 13, 3, T_u)
        return features.view(len(wav), NUM_FEATURES, -1).transpose(1, 2)


class MfccKMeans(SemanticTokenizer):
    """The nearest centroid of the standardised features; ``T_u = ceil(samples / hop_length)`` units."""

    mean: Tensor
    deviation: Tensor
    centroids: Tensor

    def __init__(self, config: MfccConfig) -> None:
        super().__init__()
        self.settings = config
        self.name, self.sample_rate, self.hop_length = config.name, config.sample_rate, config.hop_length
        self.num_units = config.num_units
        self.mfcc = Mfcc(config)
        self.register_buffer("mean", torch.zeros(NUM_FEATURES))
        self.register_buffer("deviation", torch.ones(NUM_FEATURES))
        self.register_buffer("centroids", torch.zeros(config.num_units, NUM_FEATURES))
        self.left_context = self.right_context = self.mfcc.context

    def config(self) -> dict[str, Any]:
        return {"type": "mfcc-kmeans", **asdict(self.settings)}

    def features(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """``wav (B, T)`` -> standardised features ``(B, T_u, 39)``."""
        return (self.mfcc(wav, lengths) - self.mean) / self.deviation

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(wav.device.type, enabled=False):  # what it costs is nothing, and power spectra need the precision
            features = self.features(wav, lengths)
            distances = self.centroids.square().sum(1) - 2 * features @ self.centroids.T
        num_units = torch.div(lengths + self.hop_length - 1, self.hop_length, rounding_mode="floor")
        return distances.argmin(-1) * valid_mask(num_units, features.shape[1]), num_units


def _kernels(frames_per_unit: int) -> Tensor:
    """Smoothing, its slope and its second slope as filters over frames, ``(3, 1, taps)``, each about its middle."""
    smooth = torch.hann_window(2 * frames_per_unit + 2, periodic=False)[1:-1]
    smooth = smooth / smooth.sum()
    reach = torch.arange(-SLOPE_REACH, SLOPE_REACH + 1, dtype=torch.float32)
    slope = -(reach / reach.square().sum()).flip(0)  # correlation with conv1d, which does not flip
    once = _convolve(smooth, slope)
    twice = _convolve(once, slope)
    taps = len(twice)
    return torch.stack([F.pad(kernel, ((taps - len(kernel)) // 2,) * 2) for kernel in (smooth, once, twice)])[:, None]


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]


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
