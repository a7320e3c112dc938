"""STOI (Taal et al. 2011) as a loss: differentiable, of a batch, at the sound's own rate.

Two things differ from the measure in :mod:`valle.measures.sound`, which reports quote: sounds are not resampled to 10 kHz, as windows and
bands are given in seconds and Hz; and silent frames are cut out of the bands' amplitudes, not out of the samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW_SECONDS = 0.0256  # hop: half of it
NUM_BANDS, LOWEST_HZ = 15, 150.0  # one-third octaves
SEGMENT_FRAMES = 30  # 384 ms
CLIP_DB = 15.0  # how far above the target a band may count
SILENT_DB = 40.0  # below the loudest frame


class Intelligibility(nn.Module):
    """``output`` and ``target (B, T)`` -> their STOI ``(B,)``, about -1 to 1, 1 for equal sounds; the gradient reaches ``output`` only.

    A target with fewer than 30 frames that are not silent scores 0.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.hop = round(WINDOW_SECONDS * sample_rate / 2)
        self.fft = 2 << (2 * self.hop - 1).bit_length()
        self.register_buffer("window", torch.hann_window(2 * self.hop), persistent=False)
        self.register_buffer("bands", _third_octaves(sample_rate, self.fft), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self._amplitudes(target)
            loud = self._is_loud(target)
            order = (~loud).int().argsort(dim=1, stable=True)[..., None].expand(wanted.shape)  # loud frames, then the others
            wanted = self._segments(wanted.gather(1, order))
            counted = torch.arange(wanted.shape[1], device=loud.device) + SEGMENT_FRAMES <= loud.sum(1, keepdim=True)  # (B, S)
        heard = self._segments(self._amplitudes(output).gather(1, order))  # (B, S, bands, 30)
        gain = wanted.norm(dim=-1, keepdim=True) / heard.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        heard = torch.minimum(gain * heard, wanted * (1 + 10 ** (CLIP_DB / 20)))
        likeness = F.cosine_similarity(_centred(heard), _centred(wanted), dim=-1, eps=1e-6).mean(-1)  # (B, S)
        return (likeness * counted).sum(1) / counted.sum(1).clamp(min=1)

    def _amplitudes(self, wav: Tensor) -> Tensor:
        """Of one-third octave bands, ``(B, frames, bands)``."""
        power = torch.fft.rfft(self._frames(wav), n=self.fft).abs().square()
        return (power @ self.bands + 1e-8).sqrt()

    def _frames(self, wav: Tensor) -> Tensor:
        """``(B, T)`` -> ``(B, frames, window)``."""
        return wav.unfold(1, 2 * self.hop, self.hop) * self.window

    def _is_loud(self, wav: Tensor) -> Tensor:
        """``(B, T)`` -> ``(B, frames)`` bool, true for those within 40 dB of the loudest."""
        power = self._frames(wav).square().sum(-1)
        return power > power.amax(1, keepdim=True) * 10 ** (-SILENT_DB / 10)

    def _segments(self, amplitudes: Tensor) -> Tensor:
        """``(B, frames, bands)`` -> ``(B, frames - 29, bands, 30)``."""
        return amplitudes.unfold(1, SEGMENT_FRAMES, 1)


def _third_octaves(sample_rate: int, fft: int) -> Tensor:
    """Which bins each band holds, ``(fft // 2 + 1, bands)``; those above half the rate hold none and are left out."""
    hertz = torch.linspace(0, sample_rate / 2, fft // 2 + 1)
    middle = LOWEST_HZ * 2 ** (torch.arange(NUM_BANDS) / 3)
    middle = middle[middle * 2 ** (1 / 6) <= sample_rate / 2]
    return ((hertz[:, None] >= middle * 2 ** (-1 / 6)) & (hertz[:, None] < middle * 2 ** (1 / 6))).float()


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(-1, keepdim=True)
