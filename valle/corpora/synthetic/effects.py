"""What makes many voices of one: pitch, formants, timbre, rooms and noise, on waveforms (T,) float32."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from valle.corpora.speech import SAMPLE_RATE
from valle.corpora.synthetic.voices import VoiceSettings

Waveform = NDArray[np.float32]

TARGET_RMS = 0.07  # of full scale: about -23 dBFS
_PEAK = 0.98
_WINDOW, _HOP = 512, 128  # samples
_ENVELOPE_SECONDS = 0.0015  # cepstrum kept as the envelope: shorter than a period of 600 Hz
_MAX_WARP_GAIN = 12.0  # dB
_BAND_CENTRES = (125.0, 400.0, 1000.0, 2000.0, 4000.0, 7000.0)  # Hz


def apply_voice(samples: Waveform, sample_rate: int, settings: VoiceSettings, *, room_seed: str, noise_seed: str) -> Waveform:
    """Speech at ``sample_rate`` as the voice says it, at 16 kHz and ``TARGET_RMS``; its tempo is ``pitch`` times as fast."""
    speech = soxr.resample(samples, sample_rate * settings.pitch, SAMPLE_RATE, quality="HQ")
    speech = warp_formants(speech, settings.formants / settings.pitch)
    speech = equalise(speech, tilt=settings.tilt, bands=settings.bands)
    if settings.room_seconds > 0:
        speech = reverberate(speech, seconds=settings.room_seconds, level=settings.room_level, seed=room_seed)
    speech = add_noise(speech, level=settings.noise_level, seed=noise_seed)
    gain = min(TARGET_RMS / max(_rms(speech), 1e-9), _PEAK / max(float(np.abs(speech).max()), 1e-9))
    return (speech * gain).astype(np.float32)


def warp_formants(samples: Waveform, factor: float) -> Waveform:
    """Move the spectral envelope by ``factor`` in frequency and leave the pitch where it is.

    Each short-time spectrum is multiplied by the ratio of its cepstral envelope moved to the envelope itself.
    """
    if abs(factor - 1) < 0.01:
        return samples
    num_frames = -(-len(samples) // _HOP) + _WINDOW // _HOP
    padded = np.zeros((num_frames - 1) * _HOP + _WINDOW, dtype=np.float32)
    lead = _WINDOW - _HOP
    padded[lead : lead + len(samples)] = samples
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * window  # (frames, _WINDOW)
    spectra = np.fft.rfft(frames, axis=1)
    envelopes = _log_envelopes(spectra)
    bins = np.arange(_WINDOW // 2 + 1)
    source = np.minimum(bins / factor, _WINDOW // 2)
    low = np.minimum(source.astype(int), _WINDOW // 2 - 1)
    weight = source - low
    moved = envelopes[:, low] * (1 - weight) + envelopes[:, low + 1] * weight
    limit = _MAX_WARP_GAIN * np.log(10) / 20
    warped = np.fft.irfft(spectra * np.exp(np.clip(moved - envelopes, -limit, limit)), axis=1) * window
    output, total = np.zeros(len(padded)), np.zeros(len(padded))
    for number, frame in enumerate(warped):
        output[number * _HOP : number * _HOP + _WINDOW] += frame
        total[number * _HOP : number * _HOP + _WINDOW] += window**2
    return (output / np.maximum(total, 1e-3))[lead : lead + len(samples)].astype(np.float32)


def _log_envelopes(spectra: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Smooth log-magnitudes (frames, bins) by the low part of the real cepstrum."""
    cepstra = np.fft.irfft(np.log(np.abs(spectra) + 1e-5), axis=1)
    kept = int(_ENVELOPE_SECONDS * SAMPLE_RATE)
    cepstra[:, kept + 1 : -kept] = 0
    return np.fft.rfft(cepstra, axis=1).real


def equalise(samples: Waveform, *, tilt: float, bands: tuple[float, ...]) -> Waveform:
    """A tilt in dB an octave about 1 kHz, and gains in dB at fixed centres, joined on an octave scale; without delay."""
    size = len(samples) + SAMPLE_RATE // 10
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 60.0) / 1000)
    gains = tilt * octaves
    if bands:
        gains = gains + np.interp(octaves, np.log2(np.array(_BAND_CENTRES) / 1000), bands)
    return np.fft.irfft(np.fft.rfft(samples, size) * 10 ** (gains / 20), size)[: len(samples)].astype(np.float32)


def reverberate(samples: Waveform, *, seconds: float, level: float, seed: str) -> Waveform:
    """Add a room: noise that decays by 60 dB in ``seconds``, 4 ms behind the direct sound, ``level`` dB against it in energy."""
    tail = _generator(seed).standard_normal(int(seconds * SAMPLE_RATE))
    tail *= 10 ** (-3 * np.arange(len(tail)) / (seconds * SAMPLE_RATE))
    tail *= 10 ** (level / 20) / np.sqrt(np.sum(tail**2))
    response = np.concatenate([[1.0], np.zeros(int(0.004 * SAMPLE_RATE)), tail])
    size = len(samples) + len(response)
    return np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)].astype(np.float32)


def add_noise(samples: Waveform, *, level: float, seed: str) -> Waveform:
    """Add steady noise that falls by 3 dB an octave, ``level`` dB against the speech."""
    white = np.fft.rfft(_generator(seed).standard_normal(len(samples)))
    noise = np.fft.irfft(white / np.sqrt(np.maximum(np.arange(len(white)), 1)), len(samples))
    noise *= _rms(samples) / max(_rms(noise), 1e-9) * 10 ** (level / 20)
    return samples + noise.astype(np.float32)


def _rms(samples: NDArray[np.floating[Any]]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _generator(seed: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(seed.encode())))
