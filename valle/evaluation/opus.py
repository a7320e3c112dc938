"""Opus, what people use at low bitrates, by libsndfile: to stand beside learned codecs."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from valle.audio import Waveform, resample
from valle.errors import UserError

LEAST_KBPS, MOST_KBPS = 6.0, 256.0  # a channel, in libsndfile's scale of compression levels, which is linear in the bitrate
RATES = (8000, 12000, 16000, 24000, 48000)  # Hz that Opus takes


def opus_round_trip(wav: Waveform, sample_rate: int, kbps: float) -> tuple[Waveform, float]:
    """``wav (T,)`` through Opus at about ``kbps``, and the kbit/s that it took with its Ogg container, which short files feel.

    A rate that Opus does not have is resampled to the next above it and back.
    """
    if not LEAST_KBPS <= kbps <= MOST_KBPS:
        raise UserError(f"expected {LEAST_KBPS:g} to {MOST_KBPS:g} kbit/s for Opus, found {kbps:g}")
    rate = next((rate for rate in RATES if rate >= sample_rate), RATES[-1])
    level = 1 - (kbps - LEAST_KBPS) / (MOST_KBPS - LEAST_KBPS)
    stream = io.BytesIO()
    soundfile.write(stream, resample(wav, sample_rate, rate), rate, format="OGG", subtype="OPUS", compression_level=level)
    taken = len(stream.getvalue()) * 8 / (len(wav) / sample_rate) / 1000
    stream.seek(0)
    output, found_rate = soundfile.read(stream, dtype="float32")
    output = resample(output, found_rate, sample_rate)[: len(wav)]
    return np.pad(output, (0, len(wav) - len(output))), taken
