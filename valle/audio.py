"""Audio files in and out: any format and rate, mono float32 inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from valle.errors import UserError

Waveform = NDArray[np.float32]  # (T,), about -1..1


class AudioError(UserError):
    """An audio file that cannot be read or used."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself."""

    sample_rate: int  # Hz
    num_channels: int
    seconds: float


def audio_info(path: Path) -> AudioInfo:
    """Rate, channels and length, without decoding where the format allows it."""
    _expect_file(path)
    try:
        info = soundfile.info(str(path))
        return AudioInfo(sample_rate=info.samplerate, num_channels=info.channels, seconds=info.frames / info.samplerate)
    except (soundfile.LibsndfileError, RuntimeError):
        samples, rate = _read_by_av(path)
        return AudioInfo(sample_rate=rate, num_channels=samples.shape[1], seconds=len(samples) / rate)


def read_audio(path: Path, *, sample_rate: int | None = None, offset: float = 0.0, duration: float | None = None) -> tuple[Waveform, int]:
    """Mean over the channels, ``(T,)`` float32, and its rate in Hz; resampled to ``sample_rate`` if given.

    ``offset`` and ``duration`` are seconds.  soundfile reads wav, flac, ogg, mp3, opus and aiff, PyAV the rest.
    """
    _expect_file(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            file.seek(min(round(offset * rate), file.frames))
            samples = file.read(-1 if duration is None else round(duration * rate), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError):
        samples, rate = _read_by_av(path)
        start = round(offset * rate)
        samples = samples[start : None if duration is None else start + round(duration * rate)]
    if len(samples) == 0:
        raise AudioError(f"expected audio in {path}, found not a single sample from {offset:g} s on; use another file")
    if not np.isfinite(samples).all():
        raise AudioError(f"expected numbers in {path}, found samples that are infinite or not a number; export the file again")
    wav = samples.mean(1, dtype=np.float32)
    return (wav, rate) if sample_rate in (None, rate) else (resample(wav, rate, int(sample_rate or rate)), int(sample_rate or rate))


def resample(wav: Waveform, rate: int, wanted: int) -> Waveform:
    """``(T,)`` at ``rate`` -> ``(T * wanted / rate,)`` at ``wanted`` Hz."""
    return wav if rate == wanted else soxr.resample(wav, rate, wanted).astype(np.float32)


def write_wav(path: Path, wav: Waveform, sample_rate: int) -> None:
    """16-bit wav under a temporary name, then renamed; louder than full scale is clipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        soundfile.write(str(temporary), np.clip(wav, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
        temporary.replace(path)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"cannot write {path} ({error.error_string}); is there space, and may you write there?") from error
    finally:
        temporary.unlink(missing_ok=True)


def _expect_file(path: Path) -> None:
    if path.is_dir():
        raise AudioError(f"expected an audio file, found the folder {path}; name the files in it")
    if not path.is_file():
        raise AudioError(f"expected an audio file at {path}, found nothing there; check the name")
    if path.stat().st_size == 0:
        raise AudioError(f"expected audio in {path}, found an empty file; use another")


def _read_by_av(path: Path) -> tuple[NDArray[np.float32], int]:
    """``(T, channels)`` of whatever ffmpeg's libraries decode."""
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            rate = stream.codec_context.sample_rate
            resampler = av.AudioResampler(format="fltp", rate=rate)
            frames = [frame for packet in container.decode(stream) for frame in resampler.resample(packet)]
            blocks = [frame.to_ndarray() for frame in frames + resampler.resample(None)]
    except (av.FFmpegError, IndexError, ValueError, OSError) as error:
        raise AudioError(f"expected an audio file (wav, flac, ogg, opus, mp3, aiff, m4a ...), found {path.name}, which is none or is damaged") from error
    if not blocks:
        raise AudioError(f"expected audio in {path}, found a file without sound; use another")
    return np.concatenate(blocks, 1).T.astype(np.float32), int(rate)
