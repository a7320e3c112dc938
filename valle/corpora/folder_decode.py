"""Read any audio file block by block: by libsndfile where it surely reads all of it, else by FFmpeg's libraries into a cache.

What libsndfile reads (wav, flac, mp3, ogg, opus, aiff, ...) it also seeks in exactly, and is left where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from valle.audio import FULL_SCALE_LIMIT, mono_blocks
from valle.audio_source import END_TOLERANCE, AudioFileError, channel_to_take, find_source, mix
from valle.corpora.report_reasons import Reason
from valle.ffmpeg import said

LEVEL_SECONDS = 0.02
BLOCK_LEVELS = 500


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
    """``path`` itself where libsndfile surely reads all of it, else a 16-bit mono FLAC of it at ``cached``.

    Raises :class:`BadAudioError` where neither library makes sense of it.
    """
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise BadAudioError(Reason.UNREADABLE, error.strerror or "") from error
    with _as_reasons():
        if find_source(path).seekable:
            return path
    if not cached.exists():
        _decode_to_flac(path, cached)
    return cached


def measure_levels(path: Path) -> Levels:
    """Decode all of a file that can be sought in; raises :class:`BadAudioError` where that fails on the way."""
    powers: list[NDArray[np.float32]] = []
    num_samples, peak = 0, 0.0
    with _as_reasons(lambda: f"fails after {num_samples} samples: "):
        source, channel = find_source(path), channel_to_take(path)
        rate, promised = source.sample_rate, source.num_samples or 0
        hop = max(1, round(LEVEL_SECONDS * rate))
        for block, _ in source.blocks(seconds=hop * BLOCK_LEVELS / rate):
            num_samples += len(block)
            mono = mix(block, channel)
            if not np.isfinite(mono).all():
                raise BadAudioError(Reason.CORRUPT, "holds values that are not numbers")
            peak = max(peak, float(np.abs(mono).max(initial=0.0)))
            powers.append(_power(mono, hop))
    if num_samples == 0:
        raise BadAudioError(Reason.EMPTY, "no samples")
    if num_samples < promised - END_TOLERANCE * rate:
        raise BadAudioError(Reason.CORRUPT, f"{num_samples / rate:.2f} s can be read of {promised / rate:.2f} s")
    if peak > FULL_SCALE_LIMIT:
        raise BadAudioError(Reason.OUT_OF_RANGE, f"peak at {peak:.3g} times full scale")
    return Levels(sample_rate=rate, num_channels=source.num_channels, num_samples=num_samples, hop=hop, power=np.concatenate(powers))


@contextmanager
def _as_reasons(before: Callable[[], str] = str) -> Iterator[None]:
    """A reader's sentence becomes a reason for the report, after what ``before`` says."""
    try:
        yield
    except AudioFileError as error:
        raise BadAudioError(Reason.CORRUPT, before() + (error.detail or str(error))) from error


def _power(mono: NDArray[np.float32], hop: int) -> NDArray[np.float32]:
    """Variance of each whole hop, and of what is left at the end."""
    whole = len(mono) // hop * hop
    power: NDArray[np.float32] = mono[:whole].reshape(-1, hop).var(1)
    return power if whole == len(mono) else np.append(power, mono[whole:].var())


def _decode_to_flac(path: Path, cached: Path) -> None:
    """All of a file's track of sound, mixed to mono, at the rate of its beginning; nothing is left where that fails."""
    temporary = cached.with_name(f".{cached.name}.tmp")
    cached.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _as_reasons():
            source = find_source(path)
            pieces = mono_blocks(source)
            first = next(pieces, None)
            if first is None:
                raise BadAudioError(Reason.EMPTY, "no samples")
            rate, num_samples = first.rate, 0
            with soundfile.SoundFile(str(temporary), "w", samplerate=rate, channels=1, format="FLAC", subtype="PCM_16") as file:
                for block in chain([first], pieces):
                    file.write(block.wav)
                    num_samples += len(block.wav)
        promised = (source.num_samples or 0) / source.sample_rate
        if num_samples < rate * (0.95 * promised - END_TOLERANCE):
            raise BadAudioError(Reason.CORRUPT, f"{num_samples / rate:.2f} s can be read of {promised:.2f} s")
        temporary.replace(cached)
    except (soundfile.LibsndfileError, ValueError, OverflowError) as error:
        raise BadAudioError(Reason.CORRUPT, said(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
