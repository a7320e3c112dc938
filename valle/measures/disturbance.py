"""PESQ's perceptual model (ITU-T P.862, section 10; wide-band as P.862.2) as a loss: differentiable, of a batch.

It keeps what makes PESQ: the loudness of 49 Bark bands (Zwicker), small differences masked, what is added judged more harshly than
what is missing, bad moments weighing more than their share.  It leaves out what clean pieces do not need: filters of
telephones, the alignment in time and the equalisation of frequency response and gain.  Bands and hearing threshold come from formulas
instead of the standard's tables.  So its values are near PESQ's disturbance and not equal to it: reports quote the measure in
:mod:`valle.measures.sound`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FFT, HOP, RATE = 512, 256, 16000  # samples, Hz
NUM_BANDS = 49  # half a Bark each
SPEECH_POWER = 3.4e6  # of active speech between 350 and 3250 Hz in PESQ's units, in which a sine of 1 kHz and 40 dB is 1e4
SPEECH_BAND = (350.0, 3250.0)  # Hz
ZWICKER_POWER, LOUDNESS_SCALE = 0.23, 0.1866
MASKED_SHARE = 0.25  # of the quieter one: smaller differences are not heard
MOST_A_FRAME = 45.0
SPLIT_FRAMES = 20  # 320 ms, within which the mean is of the sixth power
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309  # PESQ = 4.5 - 0.1 D - 0.0309 DA, before its mapping to MOS
LEAST = 1e-12  # under roots


class Disturbance(nn.Module):
    """``output`` and ``target (B, T)`` at 16 kHz -> how far PESQ would lie below 4.5 before its mapping, ``(B,)``; 0 for equal sounds.

    The gradient reaches ``output`` only.
    """

    window: Tensor
    bands: Tensor
    threshold: Tensor
    power: Tensor
    speech: Tensor

    def __init__(self) -> None:
        super().__init__()
        hertz = torch.linspace(0, RATE / 2, FFT // 2 + 1)
        edges = torch.linspace(0, float(_bark(torch.tensor(RATE / 2))), NUM_BANDS + 1)
        middle = _hertz((edges[1:] + edges[:-1]) / 2)
        edges_hertz = _hertz(edges)
        edges_hertz[0] = 0  # where the formula has no Bark
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        self.register_buffer("bands", _shares(hertz, edges_hertz), persistent=False)
        self.register_buffer("threshold", 10 ** (_threshold_db(middle) / 10), persistent=False)
        # Loudness rises faster below 4 Bark.
        self.register_buffer("power", ZWICKER_POWER * (6 / (_bark(middle) + 2)).clamp(1, 2) ** 0.15, persistent=False)
        self.register_buffer("speech", ((hertz >= SPEECH_BAND[0]) & (hertz <= SPEECH_BAND[1])).float(), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            spectra = self._spectra(target)
            level = (spectra @ self.speech).mean(1).clamp(min=1e-10)[:, None, None]
            wanted = spectra * (SPEECH_POWER / level) @ self.bands  # (B, frames, bands)
            wanted_loudness = self._loudness(wanted)
            weight = ((wanted.sum(-1) + 1e5) / 1e7) ** 0.04  # loud frames bear more
        heard = self._spectra(output) * (SPEECH_POWER / level) @ self.bands
        loudness = self._loudness(heard)
        difference = loudness - wanted_loudness
        distance = (difference.abs() - MASKED_SHARE * torch.minimum(loudness, wanted_loudness)).clamp(min=0)
        added = ((heard.detach() + 50) / (wanted + 50)) ** 1.2  # a weight, through which nothing is learned
        added = torch.where(added < 3, torch.zeros_like(added), added.clamp(max=12))
        # The standard's norms over bands of half a Bark, 24.5 Bark in all.
        symmetric = ((distance / 2).square().sum(-1) * (NUM_BANDS / 2) + LEAST).sqrt() / weight
        asymmetric = (distance / 2 * added).sum(-1) / weight
        return SYMMETRIC * _over_time(symmetric) + ASYMMETRIC * _over_time(asymmetric)

    def _spectra(self, wav: Tensor) -> Tensor:
        """Power ``(B, frames, FFT / 2 + 1)``."""
        return torch.fft.rfft(wav.unfold(1, FFT, HOP) * self.window).abs().square()

    def _loudness(self, power: Tensor) -> Tensor:
        """Sone a Bark of ``power (B, frames, bands)`` in PESQ's units; nothing below the threshold of hearing."""
        above = (0.5 + 0.5 * power / self.threshold).clamp(min=1)
        return LOUDNESS_SCALE * (self.threshold / 0.5) ** self.power * (above**self.power - 1)


def _over_time(frames: Tensor) -> Tensor:
    """``(B, frames)`` -> ``(B,)``: mean of the sixth power within 320 ms, of the second over them."""
    frames = frames.clamp(max=MOST_A_FRAME)
    size = min(SPLIT_FRAMES, frames.shape[1])
    splits = ((frames / 10).unfold(1, size, max(1, size // 2)) ** 6).mean(-1)  # tenths, so that powers stay small
    return 10 * ((splits + LEAST) ** (1 / 3)).mean(1).sqrt()


def _bark(hertz: Tensor) -> Tensor:
    """Traunmueller 1990."""
    return 26.81 * hertz / (1960 + hertz) - 0.53


def _hertz(bark: Tensor) -> Tensor:
    return 1960 * (bark + 0.53) / (26.28 - bark)


def _shares(bins: Tensor, edges: Tensor) -> Tensor:
    """How much of each bin, which reaches half way to its neighbours, lies in each band, ``(bins, bands)``; all in Hz."""
    between = (bins[1:] + bins[:-1]) / 2
    low = torch.cat([bins[:1], between])[:, None]
    high = torch.cat([between, bins[-1:]])[:, None]
    inside = torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])
    return (inside / (high - low)).clamp(min=0)


def _threshold_db(hertz: Tensor) -> Tensor:
    """Of hearing in quiet (Terhardt 1979)."""
    khz = hertz.clamp(min=40) / 1000
    return 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
