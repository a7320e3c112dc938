"""Sound written as it is made, for a player or a program that reads it from a pipe."""

from __future__ import annotations

import struct
from typing import BinaryIO, Literal

from valle.audio import Waveform, to_int16

SoundFormat = Literal["float32", "pcm16", "wav"]
UNKNOWN_LENGTH = 0xFFFFFFFF  # what players take for a wav that goes on until its pipe ends


class SoundOutput:
    """Mono samples at ``sample_rate`` Hz: raw little-endian float32 or 16 bits, or a wav of 16 bits without a length."""

    def __init__(self, file: BinaryIO, sound_format: SoundFormat, sample_rate: int) -> None:
        self.file, self.sound_format = file, sound_format
        if sound_format == "wav":
            self.file.write(wav_header(sample_rate))

    def write(self, wav: Waveform) -> None:
        """The next samples ``(n,)``, which are on their way when it returns."""
        samples = wav.astype("<f4") if self.sound_format == "float32" else to_int16(wav).astype("<i2")
        self.file.write(samples.tobytes())
        self.file.flush()


def wav_header(sample_rate: int) -> bytes:
    """Of mono PCM of 16 bits whose length is not known yet."""
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN_LENGTH, b"WAVE") + layout + struct.pack("<4sI", b"data", UNKNOWN_LENGTH)
