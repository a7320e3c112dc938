"""Mel spectra and their distance at several resolutions (SoundStream, Zeghidour et al. 2021, III-D)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEL_SCALES = {64: 8, 128: 16, 256: 32, 512: 48, 1024: 64, 2048: 80}  # window in samples: bands

LEAST_BAND = 1e-3  # of a band's mean amplitude, so that a silent one counts for little


def mel_filters(sample_rate: int, n_fft: int, num_mels: int) -> Tensor:
    """Triangular filters on the HTK mel scale, ``(n_fft // 2 + 1, num_mels)``; each sums to one."""
    top = 2595.0 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, device="cpu"))  # a number, also for models without memory
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
        return self._mean_over(windows, output, target, _log_distance)[0]

    def each_and_shares(self, output: Tensor, target: Tensor, *, windows: Sequence[int] = tuple(MEL_SCALES)) -> tuple[Tensor, Tensor]:
        """``each``, and beside it the L1 of amplitudes, each band as a share of the target's mean in it; ``(B,)`` both.

        With shares all bands count alike and loud moments most.  That is nearer to STOI, which correlates amplitudes within bands,
        than distances of logarithms are.
        """
        logs, shares = self._mean_over(windows, output, target, _log_distance, _share_distance)
        return logs, shares

    def _mean_over(
        self, windows: Sequence[int], output: Tensor, target: Tensor, *distances: Callable[[Tensor, Tensor], Tensor]
    ) -> list[Tensor]:
        """Each of ``distances`` between mel amplitudes ``(B, T, mels)``, mean over ``windows``; spectra are made once for all."""
        values: list[list[Tensor]] = [[] for _ in distances]
        for size in windows:
            heard = self.mel(output, size)
            with torch.no_grad():
                wanted = self.mel(target, size)
            for distance, of_windows in zip(distances, values, strict=True):
                of_windows.append(distance(heard, wanted))
        return [torch.stack(of_windows).mean(0) for of_windows in values]

    def mel(self, wav: Tensor, size: int) -> Tensor:
        """``wav (B, T)`` -> amplitudes ``(B, T / (size / 4) + 1, mels)``, floored 80 dB below full scale."""
        window, filters = getattr(self, f"window_{size}"), getattr(self, f"filters_{size}")
        frames = F.pad(wav, (size // 2, size // 2)).unfold(1, size, size // 4) * window
        return ((torch.fft.rfft(frames).abs() / size**0.5) @ filters).clamp(min=1e-4)


def _log_distance(heard: Tensor, wanted: Tensor) -> Tensor:
    return (heard.log() - wanted.log()).abs().mean((1, 2))


def _share_distance(heard: Tensor, wanted: Tensor) -> Tensor:
    level = wanted.mean(1, keepdim=True) + LEAST_BAND
    return ((heard - wanted) / level).abs().mean((1, 2))
