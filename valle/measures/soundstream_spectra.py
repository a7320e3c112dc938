"""SoundStream's reconstruction loss (Zeghidour et al. 2021, III-D, after Gritsenko et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.measures.mel import mel_filters

WINDOWS = (64, 128, 256, 512, 1024, 2048)  # samples
NUM_MELS = 64
LEAST_FFT = 2048  # shorter windows are padded to it, or many of 64 bands would hold no bin
FLOOR = 1e-5  # of amplitudes, under the logarithm
LEAST_NORM = 1e-8  # of a frame's distance, whose root has no gradient at zero


class SoundStreamSpectra(nn.Module):
    """``sum over windows s and frames t of |S_t - S'_t|_1 + sqrt(s / 2) |log S_t - log S'_t|_2``.

    ``S`` are amplitudes of 64 mel bands with a hop of a quarter window.  Frames are summed, as in the paper, so short windows,
    which have more of them, weigh more in the first term, and the loss grows with the clip's length.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for size in WINDOWS:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, LEAST_FFT, NUM_MELS), persistent=False)

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """``output`` and ``target (B, T)`` -> ``(B,)``; the gradient reaches ``output`` only."""
        total = torch.zeros(len(output), device=output.device)
        for size in WINDOWS:
            heard = self.mel(output, size)
            with torch.no_grad():
                wanted = self.mel(target, size)
            linear = (heard - wanted).abs().sum((1, 2))
            squares = (heard.clamp(min=FLOOR).log() - wanted.clamp(min=FLOOR).log()).square().sum(2)
            total = total + linear + (size / 2) ** 0.5 * squares.clamp(min=LEAST_NORM**2).sqrt().sum(1)
        return total

    def mel(self, wav: Tensor, size: int) -> Tensor:
        """``wav (B, T)`` -> amplitudes ``(B, T / (size / 4) + 1, 64)``; windows and filters sum to one, of which the paper says nothing."""
        window = getattr(self, f"window_{size}")
        frames = F.pad(wav, (size // 2, size // 2)).unfold(1, size, size // 4) * (window / window.sum())
        spectra: Tensor = torch.fft.rfft(frames, n=LEAST_FFT).abs() @ self.filters
        return spectra
