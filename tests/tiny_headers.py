"""Recordings as pipes, dead batteries, radios and ``cat`` leave them, made from a sound of known length."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile
from tiny_audio import sound

RATE = 16000


def packed(seconds: float, *, rate: int = RATE, channels: int = 1, seed: int = 0, **options) -> bytes:
    """A sound as a file of any format that libsndfile writes."""
    stream, wav = io.BytesIO(), sound(seconds, rate=rate, seed=seed)
    soundfile.write(stream, np.stack([wav] * channels, 1), rate, **options)
    return stream.getvalue()


def flac_of_unknown_length(seconds: float, *, promised: int = 0) -> bytes:
    """STREAMINFO says ``promised`` samples; 0 means that nobody knew."""
    content = bytearray(packed(seconds, format="FLAC", subtype="PCM_16"))
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 18] = promised.to_bytes(4, "big")
    return bytes(content)


def wav_of_sizes(seconds: float, *, riff: int, data: int, extra: bytes = b"") -> bytes:
    """A 16-bit WAV whose header says these sizes, whatever follows."""
    pcm = (sound(seconds) * 32767).astype("<i2").tobytes()
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVE" + fmt + extra + b"data" + struct.pack("<I", data) + pcm


def caf_of_unknown_length(seconds: float) -> bytes:
    pcm = (sound(seconds) * 32767).astype(">i2").tobytes()
    described = b"desc" + struct.pack(">q", 32) + struct.pack(">d4sIIIII", float(RATE), b"lpcm", 0, 2, 1, 1, 16)
    return b"caff" + struct.pack(">HH", 1, 0) + described + b"data" + struct.pack(">q", -1) + struct.pack(">I", 0) + pcm


def aac_frames(rate: int, channels: int, count: int) -> bytes:
    """Silence as raw AAC (ADTS); each frame says its own rate and channels."""
    payload = bytes.fromhex("00c800802380" if channels == 1 else "210049900219002380")
    length, index = 7 + len(payload), {48000: 3, 44100: 4}[rate]
    head = [0xFF, 0xF1, 1 << 6 | index << 2 | channels >> 2, (channels & 3) << 6 | length >> 11]
    return (bytes([*head, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC]) + payload) * count


def mp3_that_promises(seconds: float, *, share: float) -> bytes:
    """An mp3 whose Xing header says ``share`` of its frames."""
    content = bytearray(packed(seconds, format="MP3", subtype="MPEG_LAYER_III"))
    place = max(content.find(b"Xing"), content.find(b"Info")) + 8
    frames = int.from_bytes(content[place : place + 4], "big")
    content[place : place + 4] = round(share * frames).to_bytes(4, "big")
    return bytes(content)


def write_by_av(
    path: Path, seconds: float, codec: str, *, container: str | None = None, rate: int = 48000, channels: int = 1, seed: int = 0
) -> Path:
    """A sound as any container and codec that FFmpeg writes."""
    import av

    layout = "mono" if channels == 1 else "stereo"
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        wav = np.stack([sound(seconds, rate=rate, seed=seed)] * channels)
        frame = av.AudioFrame.from_ndarray(wav, format="fltp", layout=layout)
        frame.rate = rate
        cutter = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate, frame_size=stream.frame_size or 1024)
        for part in [*cutter.resample(frame), *cutter.resample(None), None]:
            file.mux(stream.encode(part))
    return path
