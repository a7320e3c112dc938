"""How sound changes by the second: its level and its mean spectrum, against those of a prompt."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from valle.measures.level import active_level
from valle.measures.mel import mel_filters

NUM_MELS, WINDOW_SECONDS, HOP_SECONDS = 40, 0.032, 0.016
SPEECH_DB = 35.0  # frames further below the loudest of their second are pauses
DECIBELS = 10 / float(np.log(10))  # of a natural logarithm of power

Samples = NDArray[np.float32]


def seconds_of(wav: Samples, sample_rate: int) -> list[Samples]:
    """Whole seconds of ``wav (T,)`` from its start; a last one that is not whole is left out."""
    return [wav[start : start + sample_rate] for start in range(0, len(wav) - sample_rate + 1, sample_rate)]


def level_drift(wav: Samples, prompt: Samples, sample_rate: int) -> list[float]:
    """Active level of each second of ``wav (T,)`` less that of ``prompt``, dB; NaN for a second without sound."""
    base = active_level(prompt, sample_rate)
    levels = [active_level(second, sample_rate) for second in seconds_of(wav, sample_rate)]
    return [float("nan") if level is None or base is None else level - base for level in levels]


def spectrum_drift(wav: Samples, prompt: Samples, sample_rate: int) -> list[float]:
    """Distance of each second's mean log-mel spectrum from that of ``prompt``, dB; NaN for a second without sound.

    Frames more than 35 dB below the loudest are left out, and each spectrum's own mean, so that level does not matter; the distance is
    the root of the mean square over 40 bands.
    """
    base = _spectrum(prompt, sample_rate)
    spectra = [_spectrum(second, sample_rate) for second in seconds_of(wav, sample_rate)]
    return [
        float("nan") if base is None or spectrum is None else float(np.sqrt(np.mean((spectrum - base) ** 2))) for spectrum in spectra
    ]


def _spectrum(wav: Samples, sample_rate: int) -> NDArray[np.float64] | None:
    """Mean log-mel spectrum ``(NUM_MELS,)`` of the frames with sound, dB, less its mean; None where all is silence."""
    size = round(WINDOW_SECONDS * sample_rate)
    if len(wav) < size or not wav.any():
        return None
    frames = torch.from_numpy(np.ascontiguousarray(wav)).unfold(0, size, round(HOP_SECONDS * sample_rate)) * torch.hann_window(size)
    power = torch.fft.rfft(frames).abs().square()  # (F, bins)
    energy = power.sum(1)
    kept = power[energy >= energy.max() * 10 ** (-SPEECH_DB / 10)]
    logs = (kept @ mel_filters(sample_rate, size, NUM_MELS)).clamp(min=1e-10).log().double().numpy() * DECIBELS
    mean: NDArray[np.float64] = logs.mean(0)
    return mean - mean.mean()
