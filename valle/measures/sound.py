"""How near one sound is to another: STOI, PESQ, multi-scale log-mel L1, SI-SDR."""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from valle.audio import resample
from valle.measures.mel import MultiScaleMel

Samples = NDArray[np.float32]

SHORTEST_STOI = 0.5  # seconds; STOI correlates over 384 ms, and fewer than 30 frames give no score
PESQ_RATE, SHORTEST_PESQ = 16000, 0.25  # Hz, seconds
SI_SDR_LIMIT = 100.0  # dB at which equality and its opposite are cut off


def stoi(output: Samples, target: Samples, sample_rate: int) -> float:
    """Short-time objective intelligibility, about 0 to 1 (Taal et al. 2011); NaN where ``target`` holds too little speech.

    ``output`` and ``target`` ``(T,)`` at the same rate in Hz; the longer one is cut.
    """
    from pystoi import stoi as pystoi  # imports scipy; only reports need it

    output, target = _same_length(output, target)
    if len(target) < SHORTEST_STOI * sample_rate:
        return float("nan")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = float(pystoi(target, output, sample_rate, extended=False))
    too_short = any("Not enough STFT frames" in str(warning.message) for warning in caught)
    return float("nan") if too_short else score


def has_pesq() -> bool:
    """Whether the extra ``pesq`` is installed, which is compiled from C."""
    return find_spec("pesq") is not None


def pesq_wb(output: Samples, target: Samples, sample_rate: int) -> float:
    """Wide-band PESQ at 16 kHz (ITU-T P.862.2), 1.04 to 4.64; NaN where either side holds no utterance or less than a quarter second.

    Needs the extra ``pesq``: ask :func:`has_pesq` first.
    """
    from pesq import PesqError, pesq

    output, target = _same_length(resample(output, sample_rate, PESQ_RATE), resample(target, sample_rate, PESQ_RATE))
    if len(target) < SHORTEST_PESQ * PESQ_RATE or not output.any():
        return float("nan")
    score = float(pesq(PESQ_RATE, target, output, "wb", on_error=PesqError.RETURN_VALUES))
    return score if score > 0 else float("nan")


def mel_l1(output: Samples, target: Samples, sample_rate: int) -> float:
    """Mean L1 distance of log-mel spectra over six window lengths, in nats (SoundStream, Zeghidour et al. 2021, III-D)."""
    output, target = _same_length(output, target)
    with torch.inference_mode():
        return float(_multi_scale_mel(sample_rate)(torch.from_numpy(output)[None], torch.from_numpy(target)[None]))


def si_sdr(output: Samples, target: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, within -100..100 (Le Roux et al. 2019, equation 3).

    An output, or a target, without any energy scores -100.
    """
    output, target = _same_length(output, target)
    heard, wanted = output.astype(np.float64) - output.mean(), target.astype(np.float64) - target.mean()
    power = float(wanted @ wanted)
    if power == 0 or not heard.any():
        return -SI_SDR_LIMIT
    projection = (heard @ wanted) / power * wanted
    rest = float(((heard - projection) ** 2).sum())
    signal = float((projection**2).sum())
    if signal == 0:
        return -SI_SDR_LIMIT
    return float(np.clip(10 * np.log10(signal / max(rest, 1e-30)), -SI_SDR_LIMIT, SI_SDR_LIMIT))


def silence_share(wav: Samples, sample_rate: int, *, below_peak: float = 40.0) -> float:
    """Share of 20 ms frames whose power lies more than ``below_peak`` dB under the loudest frame's; 1 without any sound."""
    size = max(1, sample_rate // 50)
    frames = len(wav) // size
    if frames == 0:
        return 1.0
    power = (wav[: frames * size].astype(np.float64).reshape(frames, size) ** 2).mean(axis=1)
    if power.max() == 0:
        return 1.0
    return float((power < power.max() * 10 ** (-below_peak / 10)).mean())


@lru_cache(maxsize=4)
def _multi_scale_mel(sample_rate: int) -> MultiScaleMel:
    return MultiScaleMel(sample_rate)


def _same_length(output: Samples, target: Samples) -> tuple[Samples, Samples]:
    if output.ndim != 1 or target.ndim != 1:
        raise ValueError(f"expected two sounds of shape (T,), found {output.shape} and {target.shape}")
    length = min(len(output), len(target))
    if length == 0:
        raise ValueError("expected two sounds with samples, found none")
    return output[:length], target[:length]
