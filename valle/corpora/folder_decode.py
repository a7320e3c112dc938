"""Read any audio file block by block: by libsndfile where it can, else by FFmpeg's libraries into a cache.

What libsndfile reads (wav, flac, mp3, ogg, opus, aiff, ...) it also seeks in exactly, and is left where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from valle.audio import FULL_SCALE_LIMIT
from valle.corpora.report_reasons import Reason

LEVEL_SECONDS = 0.02
BLOCK_LEVELS = 500
END_TOLERANCE = 0.1  # seconds that a header may promise too much


class BadAudioError(Exception):
    """A file that gives no usable audio, with the reason for the report."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Levels:
    """A decoded file: its size, and the power of its mono mix, the constant part left out, every 20 ms."""

    sample_rate: int
    num_channels: int
    num_samples: int
    hop: int  # samples
    power: NDArray[np.float32]  # (F,), 1.0 is full scale

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def seekable_source(path: Path, cached: Path) -> Path:
    """``path`` itself where libsndfile opens it, else a 16-bit mono FLAC of it at ``cached``.

    Raises :class:`BadAudioError` where neither library makes sense of it.
    """
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise BadAudioError(Reason.UNREADABLE, error.strerror or "") from error
    with suppress(soundfile.LibsndfileError), soundfile.SoundFile(str(path)) as file:
        if file.seekable():
            return path
    if not cached.exists():
        _decode_to_flac(path, cached)
    return cached


def measure_levels(path: Path) -> Levels:
    """Decode all of a file that libsndfile opens; raises :class:`BadAudioError` where that fails on the way."""
    powers: list[NDArray[np.float32]] = []
    num_samples, peak = 0, 0.0
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, channels, promised = file.samplerate, file.channels, file.frames
            hop = max(1, round(LEVEL_SECONDS * rate))
            while len(block := file.read(hop * BLOCK_LEVELS, dtype="float32", always_2d=True)):
                num_samples += len(block)
                mono = block.mean(1)
                if not np.isfinite(mono).all():
                    raise BadAudioError(Reason.CORRUPT, "holds values that are not numbers")
                peak = max(peak, float(np.abs(mono).max(initial=0.0)))
                powers.append(_power(mono, hop))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise BadAudioError(Reason.CORRUPT, f"fails after {num_samples} samples: {_said(error)}") from error
    if num_samples == 0:
        raise BadAudioError(Reason.EMPTY, "no samples")
    if num_samples < promised - END_TOLERANCE * rate:
        raise BadAudioError(Reason.CORRUPT, f"{num_samples / rate:.2f} s can be read of {promised / rate:.2f} s")
    if peak > FULL_SCALE_LIMIT:
        raise BadAudioError(Reason.OUT_OF_RANGE, f"peak at {peak:.3g} times full scale")
    return Levels(sample_rate=rate, num_channels=channels, num_samples=num_samples, hop=hop, power=np.concatenate(powers))


def _said(error: Exception) -> str:
    """What a library says of a file, without the file's name."""
    return str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error).removeprefix("Error : ").strip(" .")


def _power(mono: NDArray[np.float32], hop: int) -> NDArray[np.float32]:
    """Variance of each whole hop, and of what is left at the end."""
    whole = len(mono) // hop * hop
    power: NDArray[np.float32] = mono[:whole].reshape(-1, hop).var(1)
    return power if whole == len(mono) else np.append(power, mono[whole:].var())


def _decode_to_flac(path: Path, cached: Path) -> None:
    """All of a file's first audio stream, mixed to mono; nothing is left where that fails."""
    temporary = cached.with_name(f".{cached.name}.tmp")
    cached.parent.mkdir(parents=True, exist_ok=True)
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise BadAudioError(Reason.CORRUPT, "holds no audio stream")
            rate = container.streams.audio[0].rate
            if not rate:
                raise BadAudioError(Reason.CORRUPT, "holds no audio that can be decoded")
            with soundfile.SoundFile(str(temporary), "w", samplerate=rate, channels=1, format="FLAC", subtype="PCM_16") as file:
                for mono in _mono_frames(container, rate):
                    file.write(mono)
                num_samples = file.frames
            promised = (container.duration or 0) / av.time_base
        if num_samples == 0:
            raise BadAudioError(Reason.EMPTY, "no samples")
        if num_samples < rate * (0.95 * promised - END_TOLERANCE):
            raise BadAudioError(Reason.CORRUPT, f"{num_samples / rate:.2f} s can be read of {promised:.2f} s")
        temporary.replace(cached)
    except (av.error.FFmpegError, soundfile.LibsndfileError, ValueError, OverflowError) as error:
        raise BadAudioError(Reason.CORRUPT, _said(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _mono_frames(container: av.container.InputContainer, rate: int) -> Iterator[NDArray[np.float32]]:
    resampler = av.AudioResampler(format="fltp", rate=rate)
    for frame in container.decode(audio=0):
        for part in resampler.resample(frame):
            yield part.to_ndarray().mean(0, dtype=np.float32)
