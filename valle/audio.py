"""Audio files in, audio files out: mono float32 in -1..1, whatever the file holds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from valle.errors import UserError
from valle.files import replacing
from valle.timeline import ceil_division

Waveform = NDArray[np.float32]  # (T,), about -1..1

SOUNDFILE_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".mp3", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"})
PIECE_SECONDS = 20.0  # in which long sound is read, encoded and decoded
WRITTEN_AT_ONCE = 2**20  # samples: rounding takes several times the memory of the sound
FULL_SCALE_LIMIT = 100.0  # floating-point samples beyond this are not sound but something read wrongly


class AudioFileError(UserError):
    """An audio file that is missing, empty, corrupt, or holds no finite sound."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds, by its header."""

    sample_rate: int  # Hz
    num_samples: int  # a channel; an estimate where the container does not say
    num_channels: int

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def read_audio(
    path: Path | str, *, sample_rate: int | None = None, offset: float = 0.0, duration: float | None = None
) -> tuple[Waveform, int]:
    """Mono float32 ``(T,)`` and its sample rate in Hz.

    ``offset`` and ``duration`` are seconds of the file; less is returned where it ends early.  With ``sample_rate``, the
    sound is resampled (soxr, high quality).  Channels are averaged.  Raises ``AudioFileError``.

    >>> from valle import read_audio
    >>> wav, sample_rate = read_audio("hello.wav", sample_rate=24000, duration=2)
    >>> wav.shape, wav.dtype, sample_rate
    ((48000,), dtype('float32'), 24000)
    """
    path = Path(path)
    if offset < 0 or (duration is not None and duration <= 0):
        raise AudioFileError(f"expected an offset of 0 s or more and a duration above 0 s for {path}, found {offset} and {duration}")
    _check_file(path)
    samples, rate = (_read_soundfile if path.suffix.lower() in SOUNDFILE_SUFFIXES else _read_av)(path, offset, duration)
    if len(samples) == 0:
        where = f" after {offset:g} s" if offset else ""
        raise AudioFileError(f"expected sound in {path}{where}, found none; choose another file")
    wav = _mix(samples, path)
    if sample_rate is not None and sample_rate != rate:
        wav, rate = resample(wav, rate, sample_rate), sample_rate
    return wav, rate


def audio_pieces(path: Path | str, *, sample_rate: int, seconds: float = PIECE_SECONDS) -> Iterator[Waveform]:
    """What ``read_audio`` returns at ``sample_rate`` Hz, to the bit, in consecutive pieces of about ``seconds``; never all at once.

    Raises ``AudioFileError`` at the first piece, or at the one where the file turns out to be broken.
    """
    path = Path(path)
    _check_file(path)
    resampler: _Resampler | None = None
    for block, rate in (_soundfile_blocks if path.suffix.lower() in SOUNDFILE_SUFFIXES else _av_blocks)(path, seconds):
        resampler = resampler or _Resampler(rate, sample_rate)
        piece = resampler.next(_mix(block, path))
        if len(piece):
            yield piece
    if resampler is None:
        raise AudioFileError(f"expected sound in {path}, found none; choose another file")
    piece = resampler.last()
    if len(piece):
        yield piece


def audio_info(path: Path | str) -> AudioInfo:
    """Rate, length and channels of a file without reading all of it.  Raises ``AudioFileError``."""
    path = Path(path)
    _check_file(path)
    if path.suffix.lower() in SOUNDFILE_SUFFIXES:
        with _opened(path) as file:
            return AudioInfo(sample_rate=file.samplerate, num_samples=file.frames, num_channels=file.channels)
    with _av_errors(path) as av, av.open(str(path)) as container:
        stream = _av_stream(container, path)
        seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        return AudioInfo(sample_rate=stream.rate, num_samples=round(seconds * stream.rate), num_channels=stream.channels)


def resample(wav: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """``wav (T,)`` at ``from_rate`` Hz -> at ``to_rate``: ``ceil(T * to / from)`` samples exactly, aligned with the input."""
    if from_rate == to_rate:
        return wav
    import soxr

    output: Waveform = soxr.resample(wav, from_rate, to_rate).astype(np.float32)
    common = gcd(from_rate, to_rate)
    wanted = ceil_division(len(wav) * (to_rate // common), from_rate // common)
    return np.pad(output, (0, max(0, wanted - len(output))))[:wanted]


class _Resampler:
    """``resample`` of a sound that comes in pieces."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        import soxr

        common = gcd(from_rate, to_rate)
        self._from, self._to = from_rate // common, to_rate // common
        self._stream = None if from_rate == to_rate else soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32")
        self._heard = self._given = 0

    def next(self, wav: Waveform) -> Waveform:
        self._heard += len(wav)
        output = wav if self._stream is None else self._stream.resample_chunk(wav)
        self._given += len(output)
        return output

    def last(self) -> Waveform:
        if self._stream is None:
            return np.zeros(0, np.float32)
        output = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        wanted = ceil_division(self._heard * self._to, self._from) - self._given
        return np.pad(output, (0, max(0, wanted - len(output))))[:wanted]


def write_wav(path: Path | str, wav: Waveform, sample_rate: int) -> None:
    """Write ``wav (T,)`` as 16-bit PCM, clipped to -1..1; under a temporary name, then renamed.

    >>> from valle import read_audio, write_wav
    >>> wav, sample_rate = read_audio("hello.wav")
    >>> write_wav("quieter.wav", wav / 2, sample_rate)
    """
    packed = io.BytesIO()  # libsndfile would not say that a disk is full
    with soundfile.SoundFile(packed, "w", sample_rate, channels=1, subtype="PCM_16", format="WAV") as file:
        for start in range(0, len(wav), WRITTEN_AT_ONCE):
            file.write(to_int16(wav[start : start + WRITTEN_AT_ONCE]))
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(packed.getbuffer())


def to_int16(wav: Waveform) -> NDArray[np.int16]:
    """The inverse of reading 16-bit samples as fractions of 32768: what was read is written back bit for bit."""
    return np.clip(np.round(np.asarray(wav, dtype=np.float64) * 32768), -32768, 32767).astype(np.int16)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise AudioFileError(f"expected an audio file, found the folder {path}; name a file inside it")
    if not path.is_file():
        found = "something else than a file" if path.exists() else "nothing"
        raise AudioFileError(f"expected an audio file at {path}, found {found} there; check the name")
    if path.stat().st_size == 0:
        raise AudioFileError(f"expected sound in {path}, found an empty file (0 bytes); choose another file")


def _mix(samples: Waveform, path: Path) -> Waveform:
    """``(T, C)`` -> ``(T,)``, once it is known to be finite."""
    if not np.isfinite(samples).all():
        raise AudioFileError(f"expected finite samples in {path}, found NaN or infinity; write the file again from its source")
    peak = np.abs(samples).max()
    if peak > FULL_SCALE_LIMIT:
        raise AudioFileError(f"expected samples within -1..1 in {path}, found {peak:.3g}; the file is corrupt or scaled wrongly")
    return np.ascontiguousarray(samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1), dtype=np.float32)


class _opened:
    """A ``soundfile.SoundFile`` whose complaints name the file and what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> soundfile.SoundFile:
        try:
            self.file = soundfile.SoundFile(self.path)
        except soundfile.LibsndfileError as error:
            raise _unreadable(self.path, error) from error
        return self.file

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.file.close()
        if isinstance(error, soundfile.LibsndfileError):
            raise _unreadable(self.path, error) from error


def _read_soundfile(path: Path, offset: float, duration: float | None) -> tuple[Waveform, int]:
    with _opened(path) as file:
        rate = file.samplerate
        if offset:
            file.seek(min(round(offset * rate), file.frames))
        wanted = -1 if duration is None else round(duration * rate)
        return file.read(wanted, dtype="float32", always_2d=True), rate


def _soundfile_blocks(path: Path, seconds: float) -> Iterator[tuple[Waveform, int]]:
    """Blocks ``(n, C)`` of a file, not empty, and its sample rate."""
    with _opened(path) as file:
        rate = file.samplerate
        while len(block := file.read(max(1, round(seconds * rate)), dtype="float32", always_2d=True)):
            yield block, rate


def _av_blocks(path: Path, seconds: float) -> Iterator[tuple[Waveform, int]]:
    with _av_errors(path) as av, av.open(str(path)) as container:
        stream = _av_stream(container, path)
        rate = int(stream.rate)
        pieces: list[Waveform] = []
        for piece in _av_pieces(av, container, stream):
            pieces.append(piece)
            if sum(map(len, pieces)) >= seconds * rate:
                yield np.concatenate(pieces), rate
                pieces = []
        if sum(map(len, pieces)):
            yield np.concatenate(pieces), rate


class _av_errors:
    """PyAV, imported late; its complaints name the file and what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        import av

        self.error = av.error.FFmpegError
        return av

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (self.error, UnicodeDecodeError)):
            raise _unreadable(self.path, error) from error


def _read_av(path: Path, offset: float, duration: float | None) -> tuple[Waveform, int]:
    """Anything that FFmpeg reads, decoded from the start so that ``offset`` is exact to a sample."""
    with _av_errors(path) as av, av.open(str(path)) as container:
        stream = _av_stream(container, path)
        rate = int(stream.rate)
        first = round(offset * rate)
        last = None if duration is None else first + round(duration * rate)
        pieces, position = [], 0
        for piece in _av_pieces(av, container, stream):
            begin, end = position, position + len(piece)
            position = end
            if end > first:
                pieces.append(piece[max(0, first - begin) : None if last is None else max(0, last - begin)])
            if last is not None and end >= last:
                break
    return np.concatenate(pieces) if pieces else np.zeros((0, 1), np.float32), rate


def _av_pieces(av: Any, container: Any, stream: Any) -> Iterator[Waveform]:
    """Blocks ``(n, C)`` float32 in order."""
    converter = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    for frame in container.decode(stream):
        for block in converter.resample(frame):
            yield block.to_ndarray().T
    for block in converter.resample(None):
        yield block.to_ndarray().T


def _av_stream(container: Any, path: Path) -> Any:
    if not container.streams.audio:
        raise AudioFileError(f"expected sound in {path}, found a file without an audio track; choose another file")
    return container.streams.audio[0]


def _unreadable(path: Path, error: BaseException) -> AudioFileError:
    reason = str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or type(error).__name__).strip(" .")
    reason = "Format not recognised" if "does not exist" in reason else reason  # what libsndfile says of an mp3 that is none
    return AudioFileError(f"expected an audio file, but {path} cannot be decoded ({reason}); it may be corrupt, cut short or not audio")
