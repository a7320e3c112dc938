"""What happens to sound between who makes it and who hears it: attacks on a watermark, and on the detector of generated speech."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial

import av
import numpy as np
import soundfile
import torch

from valle.audio import Waveform, resample, to_int16
from valle.evaluation.opus import opus_round_trip
from valle.tokenizers.base import AcousticTokenizer
from valle.tokenizers.stream import decode_clip, encode_clip

RATE = 16000  # Hz
CODEC = "codec_"  # begins the names of round trips by neural codecs
ATTACK_NAMES = {
    "none": "cropped to 1 s, nothing else", "mp3_64k": "mp3, 64 kbit/s", "opus_32k": "Opus, 32 kbit/s", "resample_8khz": "8 kHz and back",
    "noise_20db": "white noise, 20 dB", "noise_10db": "white noise, 10 dB", "gain_minus_20db": "20 dB quieter, 16 bits",
    "speed_1.02": "2 % slower and lower",
}  # fmt: skip

Attack = Callable[[Waveform], Waveform]


def attacks(codecs: Mapping[str, AcousticTokenizer]) -> dict[str, Attack]:
    """By name, each of ``wav (T,)`` at ``RATE``; ``codecs`` by the names of their rows, ``codec_NAME``."""
    return {
        "none": lambda wav: wav,
        "mp3_64k": lambda wav: mp3(wav, 64000),
        "opus_32k": lambda wav: opus_round_trip(wav, RATE, 32)[0],
        "resample_8khz": lambda wav: resample(resample(wav, RATE, 8000), 8000, RATE)[: len(wav)],
        "noise_20db": lambda wav: add_noise(wav, 20.0, seed=1),
        "noise_10db": lambda wav: add_noise(wav, 10.0, seed=1),
        "gain_minus_20db": lambda wav: (to_int16(0.1 * wav) / 32768).astype(np.float32),
        "speed_1.02": lambda wav: resample(wav, 51 * 320, 50 * 320),
        **{f"{CODEC}{name}": partial(codec_round_trip, codec) for name, codec in codecs.items()},
    }


def add_noise(wav: Waveform, decibels: float, *, seed: int) -> Waveform:
    """White noise whose power is so many dB below that of ``wav (T,)``."""
    noise = np.random.default_rng(seed).normal(size=len(wav))
    return (wav + noise * np.sqrt(np.mean(np.square(wav)) / 10 ** (decibels / 10))).astype(np.float32)


def mp3(wav: Waveform, bits_a_second: int) -> Waveform:
    """Through FFmpeg's mp3 encoder and back."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp3") as container:
        track = container.add_stream("mp3", rate=RATE, layout="mono")
        track.bit_rate = bits_a_second
        frame = av.AudioFrame.from_ndarray(to_int16(wav)[None], format="s16p", layout="mono")
        frame.sample_rate = RATE
        for packet in [*track.encode(frame), *track.encode(None)]:
            container.mux(packet)
    stream.seek(0)
    return soundfile.read(stream, dtype="float32")[0]


def codec_round_trip(codec: AcousticTokenizer, wav: Waveform) -> Waveform:
    """All codebooks of a neural codec, at its own rate."""
    with torch.inference_mode():
        codes = encode_clip(codec, torch.from_numpy(resample(wav, RATE, codec.sample_rate)))
        return resample(decode_clip(codec, codes).numpy(), codec.sample_rate, RATE)[: len(wav)]
