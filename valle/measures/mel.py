"""Mel spectra and their distance at several resolutions (SoundStream, Zeghidour et al. 2021, III-D)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEL_SCALES = {64: 8, 128: 16, 256: 32, 512: 48, 1024: 64, 2048: 80}  # window in samples: bands

LEAST_BAND = 1e-3  # of a band's mean amplitude, so that a silent one counts for little


def mel_filters(sample_rate: int, n_fft: int, num_mels: int) -> Tensor:
    """Triangular filters on the HTK mel scale, ``(n_fft // 2 + 1, num_mels)``; each sums to one."""
    top = 2595.0 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700))
    edges = 700 * (10 ** (torch.linspace(0, float(top), num_mels + 2) / 2595) - 1)
    hertz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    rise = (hertz[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[None, 2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rise, fall).clamp(min=0)
    return filters / filters.sum(0).clamp(min=1e-6)


def hertz_to_mel(hertz: Tensor) -> Tensor:
    """The HTK mel scale."""
    return 2595.0 * torch.log10(1 + hertz / 700)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """Its inverse."""
    return 700 * (10 ** (mel / 2595) - 1)


class MultiScaleMel(nn.Module):
    """Mean L1 distance of log-mel spectra over several window lengths, in nats; hop = window / 4."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for size, count in MEL_SCALES.items():
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            self.register_buffer(f"filters_{size}", mel_filters(sample_rate, size, count), persistent=False)

    def forward(self, output: Tensor, target: Tensor, *, windows: Sequence[int] = tuple(MEL_SCALES)) -> Tensor:
        """``output`` and ``target (B, T)`` -> mean over ``windows``; the gradient reaches ``output`` only."""
        return self.each(output, target, windows=windows).mean()

    def each(self, output: Tensor, target: Tensor, *, windows: Sequence[int] = tuple(MEL_SCALES)) -> Tensor:
        """The same of every example, ``(B,)``."""
        with torch.no_grad():
            wanted = [self.log_mel(target, size) for size in windows]
        distances = [(self.log_mel(output, size) - logs).abs().mean((1, 2)) for size, logs in zip(windows, wanted, strict=True)]
        return torch.stack(distances).mean(0)

    def band_shares(self, output: Tensor, target: Tensor, *, windows: Sequence[int] = tuple(MEL_SCALES)) -> Tensor:
        """L1 of mel amplitudes, each band as a share of the target's mean in it, ``(B,)``: all bands count alike, loud moments most.

        That is nearer to STOI, which correlates amplitudes within bands, than distances of logarithms are.
        """
        distances = []
        for size in windows:
            heard = self.log_mel(output, size).exp()
            with torch.no_grad():
                wanted = self.log_mel(target, size).exp()
                level = wanted.mean(1, keepdim=True) + LEAST_BAND
            distances.append(((heard - wanted) / level).abs().mean((1, 2)))
        return torch.stack(distances).mean(0)

    def log_mel(self, wav: Tensor, size: int) -> Tensor:
        """``wav (B, T)`` -> ``(B, T / (size / 4) + 1, mels)`` in nats, floored at -9.2 (80 dB below full scale)."""
        window, filters = getattr(self, f"window_{size}"), getattr(self, f"filters_{size}")
        frames = F.pad(wav, (size // 2, size // 2)).unfold(1, size, size // 4) * window
        return ((torch.fft.rfft(frames).abs() / size**0.5) @ filters).clamp(min=1e-4).log()
