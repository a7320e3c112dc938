"""A file from elsewhere to samples, in a process of its own: ``python -m valle.live.decode_upload SECONDS`` between its limits.

The file comes by standard input and never has a name, so there is nothing beside it that could be opened; the containers are those of
``DEMUXERS``.  Standard output gets a line of JSON, then mono float32.  Whoever started the process can kill it.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Iterator

import numpy as np

from valle.audio_source import Samples, cancelling_channel, mix
from valle.errors import UserError
from valle.ffmpeg import DecodeError, decode

DEMUXERS = "wav,w64,flac,ogg,mp3,mov,matroska"  # mov: mp4, m4a; matroska: webm
RATES = (4000, 192000)  # Hz
MAX_CHANNELS = 8
MEMORY_BYTES = 2**30
CPU_SECONDS = 20
PEAK = 10.0


class UploadError(UserError):
    """A file that holds no sound that can be used."""


def decode_upload(content: bytes, seconds: float) -> tuple[Samples, int]:
    """The first ``seconds`` of a file -> mono ``(n,)`` and its rate in Hz; no more is decoded.  Raises ``UploadError``."""
    try:
        blocks = list(_first(decode(io.BytesIO(content), demuxers=DEMUXERS), seconds))
    except DecodeError as error:
        raise UploadError(f"expected a wav, flac, ogg, mp3, mp4 or webm file, found one that cannot be decoded ({error})") from error
    if not blocks:
        raise UploadError("expected sound in the file, found none; send another file")
    rate, channel = blocks[0][1], cancelling_channel(blocks)
    wav = np.concatenate([mix(samples, channel) for samples, _ in blocks])[: round(seconds * rate)]
    if not np.isfinite(wav).all() or np.abs(wav).max() > PEAK:
        raise UploadError("expected finite samples within -1..1, found others; write the file again from its source")
    return wav, rate


def _first(blocks: Iterator[tuple[Samples, int]], seconds: float) -> Iterator[tuple[Samples, int]]:
    heard, rate = 0.0, 0
    for samples, block_rate in blocks:
        rate = rate or block_rate
        if not RATES[0] <= block_rate <= RATES[1]:
            raise UploadError(f"expected {RATES[0]} to {RATES[1]} samples a second, found {block_rate}; resample the file")
        if samples.shape[1] > MAX_CHANNELS:
            raise UploadError(f"expected at most {MAX_CHANNELS} channels, found {samples.shape[1]}; mix the file first")
        if block_rate != rate:
            raise UploadError(f"expected one sample rate in the file, found {rate} and {block_rate} Hz; write the file again")
        yield samples, rate
        heard += len(samples) / rate
        if heard >= seconds:
            return


def main() -> None:
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        resource.setrlimit(limit, (most, most))
    output = sys.stdout.buffer
    try:
        wav, rate = decode_upload(sys.stdin.buffer.read(), float(sys.argv[1]))
    except UploadError as error:
        output.write(json.dumps({"error": str(error)}).encode() + b"\n")
    except MemoryError:
        output.write(json.dumps({"error": "expected a file that can be decoded in 1 GiB of memory, found a larger one"}).encode() + b"\n")
    else:
        output.write(json.dumps({"sample_rate": rate}).encode() + b"\n" + wav.astype("<f4").tobytes())
    output.flush()


if __name__ == "__main__":
    main()
