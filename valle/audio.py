"""Audio files in, audio files out: mono float32 in -1..1, whatever the file holds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from valle.audio_source import AudioFileError, AudioSource, Samples, channel_to_take, estimate_samples, find_source, mix
from valle.files import replacing
from valle.timeline import ceil_division

__all__ = [
    "AudioFileError", "AudioInfo", "MonoBlock", "Resampler", "Waveform", "audio_info", "audio_pieces", "count_samples", "mono_blocks",
    "read_audio", "resample", "to_int16", "wav_bytes", "write_wav",
]  # fmt: skip

Waveform = NDArray[np.float32]  # (T,), about -1..1

PIECE_SECONDS = 20.0  # in which long sound is read, encoded and decoded
WRITTEN_AT_ONCE = 2**20  # samples: rounding takes several times the memory of the sound
MAX_HOURS_AT_ONCE = 3.0  # that are held in memory
FULL_SCALE_LIMIT = 100.0  # floating-point samples beyond this are not sound but something read wrongly


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself."""

    sample_rate: int  # Hz
    num_samples: int  # a channel; an estimate where the container does not say
    num_channels: int

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def read_audio(
    path: Path | str, *, sample_rate: int | None = None, offset: float = 0.0, duration: float | None = None, channel: int | None = None
) -> tuple[Waveform, int]:
    """Mono float32 ``(T,)`` and its sample rate in Hz.

    ``offset`` and ``duration`` are seconds of the file; less is returned where it ends early.  With ``sample_rate``, the
    sound is resampled (soxr, high quality).  Channels are averaged, or the loudest is taken where they cancel each other; ``channel``
    takes one, from 0.  Where the rate changes on the way, all is at the rate of the beginning.  Raises ``AudioFileError``.

    >>> from valle import read_audio
    >>> wav, sample_rate = read_audio("hello.wav", sample_rate=24000, duration=2)
    >>> wav.shape, wav.dtype, sample_rate
    ((48000,), dtype('float32'), 24000)
    """
    path = Path(path)
    if offset < 0 or (duration is not None and duration <= 0):
        raise AudioFileError(f"expected an offset of 0 s or more and a duration above 0 s for {path}, found {offset} and {duration}")
    source = find_source(path)
    if channel is not None and not 0 <= channel < source.num_channels:
        raise AudioFileError(f"expected channel {channel} of {path}, counted from 0, found {source.num_channels} channels; choose another")
    pieces, rate, held = list[Waveform](), source.sample_rate, 0
    for block in mono_blocks(source, offset=offset, duration=duration, channel=channel):
        rate = block.rate
        first = round(offset * rate)
        last = None if duration is None else first + round(duration * rate)
        if block.end > first:
            pieces.append(block.wav[max(0, first - block.start) : None if last is None else max(0, last - block.start)])
            held += len(pieces[-1])
        if held > 3600 * MAX_HOURS_AT_ONCE * rate:
            raise AudioFileError(f"expected at most {MAX_HOURS_AT_ONCE:g} h of {path} at once, found more; split it, or take a part of it")
        if last is not None and block.end >= last:
            break
    wav = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if len(wav) == 0:
        where = f" after {offset:g} s" if offset else ""
        raise AudioFileError(f"expected sound in {path}{where}, found none; choose another file")
    if sample_rate is not None and sample_rate != rate:
        wav, rate = resample(wav, rate, sample_rate), sample_rate
    return wav, rate


def audio_pieces(path: Path | str, *, sample_rate: int | None = None, seconds: float = PIECE_SECONDS) -> Iterator[Waveform]:
    """What ``read_audio`` returns at ``sample_rate`` Hz, to the bit, in consecutive pieces of about ``seconds``; never all at once.

    Raises ``AudioFileError`` at the first piece, or at the one where the file turns out to be broken.
    """
    path = Path(path)
    resampler: Resampler | None = None
    for block in mono_blocks(find_source(path), block_seconds=seconds):
        resampler = resampler or Resampler(block.rate, sample_rate or block.rate)
        piece = resampler.next(block.wav)
        if len(piece):
            yield piece
    if resampler is None:
        raise AudioFileError(f"expected sound in {path}, found none; choose another file")
    piece = resampler.last()
    if len(piece):
        yield piece


def count_samples(path: Path | str) -> tuple[int, int]:
    """Samples of a channel that ``read_audio`` gives of all of a file, and their rate in Hz; decodes where nothing surely says so."""
    source = find_source(Path(path))
    if source.seekable and source.num_samples:
        return source.num_samples, source.sample_rate
    num_samples, rate = 0, source.sample_rate
    for block in mono_blocks(source):
        num_samples, rate = block.end, block.rate
    return num_samples, rate


def audio_info(path: Path | str) -> AudioInfo:
    """Rate, length and channels of a file without decoding all of it.  Raises ``AudioFileError``."""
    source = find_source(Path(path))
    return AudioInfo(sample_rate=source.sample_rate, num_samples=estimate_samples(source), num_channels=source.num_channels)


def resample(wav: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """``wav (T,)`` at ``from_rate`` Hz -> at ``to_rate``: ``ceil(T * to / from)`` samples exactly, aligned with the input."""
    if from_rate == to_rate:
        return wav
    import soxr

    output: Waveform = soxr.resample(wav, from_rate, to_rate).astype(np.float32)
    common = gcd(from_rate, to_rate)
    wanted = ceil_division(len(wav) * (to_rate // common), from_rate // common)
    return np.pad(output, (0, max(0, wanted - len(output))))[:wanted]


class Resampler:
    """``resample`` of a sound that comes in pieces."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        import soxr

        common = gcd(from_rate, to_rate)
        self.from_rate = from_rate
        self._from, self._to = from_rate // common, to_rate // common
        self._stream = None if from_rate == to_rate else soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32")
        self._heard = self._given = 0

    def next(self, wav: Waveform) -> Waveform:
        """The next samples ``(n,)`` -> what can be said of the output, often less."""
        self._heard += len(wav)
        output = wav if self._stream is None else self._stream.resample_chunk(wav)
        self._given += len(output)
        return output

    def last(self) -> Waveform:
        """The sound ends -> what remains of the output."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        output = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        wanted = ceil_division(self._heard * self._to, self._from) - self._given
        return np.pad(output, (0, max(0, wanted - len(output))))[:wanted]


def write_wav(path: Path | str, wav: Waveform, sample_rate: int, *, comment: str = "") -> None:
    """Write ``wav (T,)`` as 16-bit PCM, clipped to -1..1, with a ``comment`` in its header; under a temporary name, then renamed.

    >>> from valle import read_audio, write_wav
    >>> wav, sample_rate = read_audio("hello.wav")
    >>> write_wav("quieter.wav", wav / 2, sample_rate)
    """
    content = wav_bytes(wav, sample_rate, comment=comment)  # libsndfile would not say that a disk is full
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def wav_bytes(wav: Waveform, sample_rate: int, *, comment: str = "") -> memoryview:
    """The content of the file that ``write_wav`` writes."""
    packed = io.BytesIO()
    with soundfile.SoundFile(packed, "w", sample_rate, channels=1, subtype="PCM_16", format="WAV") as file:
        if comment:
            file.comment = comment
        for start in range(0, len(wav), WRITTEN_AT_ONCE):
            file.write(to_int16(wav[start : start + WRITTEN_AT_ONCE]))
    return packed.getbuffer()


def to_int16(wav: Waveform) -> NDArray[np.int16]:
    """The inverse of reading 16-bit samples as fractions of 32768: what was read is written back bit for bit."""
    return np.clip(np.round(np.asarray(wav, dtype=np.float64) * 32768), -32768, 32767).astype(np.int16)


@dataclass(frozen=True)
class MonoBlock:
    """Consecutive samples of a file."""

    start: int  # place of the first sample in the file
    wav: Waveform  # (n,), n at least 1
    rate: int  # Hz, of all blocks of the file

    @property
    def end(self) -> int:
        return self.start + len(self.wav)


def mono_blocks(
    source: AudioSource, *, offset: float = 0.0, duration: float | None = None, block_seconds: float | None = None,
    channel: int | None = None,
) -> Iterator[MonoBlock]:  # fmt: skip
    """A file's sound in order, from ``offset`` seconds or before it: one channel, and one rate, that of its beginning.

    ``duration`` is what is wanted, so that no more is decoded at once.  ``channel`` takes one instead of the mean.

    Raises ``AudioFileError``.
    """
    if block_seconds is None:
        block_seconds = PIECE_SECONDS if duration is None else min(PIECE_SECONDS, max(duration, 0.1))
    path = source.path
    taken = channel_to_take(path) if channel is None else channel
    start = min(round(offset * source.sample_rate), source.num_samples or 0) if source.seekable else 0
    to_rate, resampler = 0, None
    for samples, rate in source.blocks(offset=start, seconds=block_seconds):
        to_rate = to_rate or rate
        pieces = list[Waveform]()
        if resampler is None or resampler.from_rate != rate:  # a run of another rate begins
            pieces += [resampler.last()] if resampler else []
            resampler = Resampler(rate, to_rate)
        pieces.append(resampler.next(_checked(mix(samples, taken), samples, path)))
        for piece in filter(len, pieces):
            yield MonoBlock(start, piece, to_rate)
            start += len(piece)
    if resampler is not None and len(piece := resampler.last()):
        yield MonoBlock(start, piece, to_rate)


def _checked(wav: Waveform, samples: Samples, path: Path) -> Waveform:
    """``wav``, once it is known that the ``samples (n, C)`` behind it are finite and within reason."""
    if not np.isfinite(samples).all():
        raise AudioFileError(f"expected finite samples in {path}, found NaN or infinity; write the file again from its source")
    peak = np.abs(samples).max()
    if peak > FULL_SCALE_LIMIT:
        raise AudioFileError(f"expected samples within -1..1 in {path}, found {peak:.3g}; the file is corrupt or scaled wrongly")
    return wav
