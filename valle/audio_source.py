"""Which library reads a file, found from its content, and what it holds: blocks of samples as they are stored.

libsndfile seeks to the sample, so it reads what it is sure to read right: its length is compared with the size of the file, or with
the packets that FFmpeg finds. Everything else is decoded by FFmpeg from the start: headers that do not know the length, files put end
to end, rates and channels that change on the way, and all other containers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from valle.audio_headers import mp3_length_is_wrong, second_of_its_kind
from valle.errors import UserError
from valle.ffmpeg import NO_TRACK, NOT_KNOWN, DecodeError, count_packets, decode, read_track, said

Samples = NDArray[np.float32]  # (n, C)

MAX_HOURS = 24.0  # of one file: a small one may hold days of silence
RATES = (1000, 768000)  # Hz
MAX_CHANNELS = 64
PRECISE = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF"}  # whose frames are all of one size, unless they are compressed
PACKED = {"FLAC", "OGG", "MP3"}
BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}  # of a sample
SPARE_BYTES = 2**16  # that a file may hold beside its samples, or a tenth of it
SPARE_SAMPLES = 4000  # by which the packets of lossy formats pass the sound: what the encoder put before and after it
END_TOLERANCE = 0.1  # seconds that a header may promise too much
HEARD_SECONDS = 30.0  # that decide how channels are mixed
AUDIBLE_POWER, LOST_SHARE = 1e-6, 0.1  # -60 dB of full scale; -10 dB


class AudioFileError(UserError):
    """An audio file that is missing, empty, corrupt, or holds no finite sound; ``detail`` is what a library said of it."""

    detail: str = ""


@dataclass(frozen=True)
class AudioSource:
    """How a file is read, and what it says of itself."""

    path: Path
    seekable: bool  # by libsndfile; otherwise by FFmpeg, from the start
    sample_rate: int  # Hz, at its beginning
    num_channels: int  # at its beginning
    num_samples: int | None  # a channel; None where only decoding tells

    def blocks(self, *, offset: int = 0, seconds: float = 0.5) -> Iterator[tuple[Samples, int]]:
        """Blocks ``(n, C)`` of about ``seconds``, none empty, with their rates, from ``offset`` samples on if ``seekable``.

        Raises ``AudioFileError``.
        """
        heard = 0.0
        for samples, rate in self._seekable_blocks(offset, seconds) if self.seekable else self._decoded(seconds):
            _check_kind(self.path, rate, samples.shape[1])
            heard += len(samples) / rate
            _check_length(self.path, heard)
            yield samples, rate

    def _seekable_blocks(self, offset: int, seconds: float) -> Iterator[tuple[Samples, int]]:
        with opened(self.path) as file:
            if offset:
                file.seek(min(offset, file.frames))
            size, place = max(1, round(seconds * file.samplerate)), offset
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                place += len(block)
                yield block, file.samplerate
            if place < file.frames - END_TOLERANCE * file.samplerate:
                raise unreadable(self.path, f"{place / file.samplerate:.2f} s can be read of {file.frames / file.samplerate:.2f} s")

    def _decoded(self, seconds: float) -> Iterator[tuple[Samples, int]]:
        try:
            yield from decode(self.path, block_seconds=seconds)
        except DecodeError as error:
            raise unreadable(self.path, str(error)) from error


def find_source(path: Path) -> AudioSource:
    """How ``path`` is read; looked into once for as long as it does not change.  Raises ``AudioFileError``."""
    check_file(path)
    status = path.stat()
    return _find_source(path, status.st_size, status.st_mtime_ns)


def estimate_samples(source: AudioSource) -> int:
    """Samples of a channel, without decoding: as the file says, else as its packets do."""
    if source.num_samples is not None:
        return source.num_samples
    try:
        return round(count_packets(source.path).seconds * source.sample_rate)
    except DecodeError as error:
        raise unreadable(source.path, str(error)) from error


def channel_to_take(path: Path) -> int | None:
    """The channel that stands for all of a file's, where they cancel each other; None where their mean does.

    A stereo recording with one channel turned over is audible, but its mean is nothing. Where the mean has lost more than 10 dB
    against the loudest channel, that channel is taken; what is heard in the first half minute of sound decides for all of the file.
    """
    source = find_source(path)
    if source.num_channels < 2:
        return None
    status = path.stat()
    return _channel_to_take(path, status.st_size, status.st_mtime_ns)


def mix(samples: Samples, channel: int | None) -> NDArray[np.float32]:
    """``(n, C)`` -> ``(n,)``: the mean, or one channel; the mean too where there are fewer channels than at the file's beginning."""
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    if channel is not None and channel < samples.shape[1]:
        return np.ascontiguousarray(samples[:, channel])
    return np.ascontiguousarray(samples.mean(axis=1), dtype=np.float32)


def check_file(path: Path) -> None:
    """Refuse what is no file or an empty one."""
    if path.is_dir():
        raise AudioFileError(f"expected an audio file, found the folder {path}; name a file inside it")
    if not path.is_file():
        found = "something else than a file" if path.exists() else "nothing"
        raise AudioFileError(f"expected an audio file at {path}, found {found} there; check the name")
    if path.stat().st_size == 0:
        raise AudioFileError(f"expected sound in {path}, found an empty file (0 bytes); choose another file")


@contextmanager
def opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """A ``soundfile.SoundFile`` whose complaints name the file and what to do."""
    try:
        with path.open("rb") as stream, soundfile.SoundFile(stream.fileno(), closefd=False) as file:  # without its name
            yield file
    except (soundfile.LibsndfileError, OSError) as error:
        raise unreadable(path, said(error)) from error


def unreadable(path: Path, reason: str) -> AudioFileError:
    """The sentence for a file that no library reads."""
    if reason == NO_TRACK:
        error = AudioFileError(f"expected sound in {path}, found a file without an audio track; choose another file")
        error.detail = reason
        return error
    reason = NOT_KNOWN if "does not exist" in reason else reason  # what libsndfile says of an mp3 that is none
    error = AudioFileError(f"expected an audio file, but {path} cannot be decoded ({reason}); it may be corrupt, cut short or not audio")
    error.detail = reason
    return error


@lru_cache(maxsize=100_000)
def _find_source(path: Path, size: int, modified: int) -> AudioSource:
    if (form := second_of_its_kind(path, size)) is not None:
        raise AudioFileError(
            f"expected one recording in {path}, found several {form} files put end to end, of which only the first could be read; "
            "split it into its files"
        )
    by_soundfile = None if mp3_length_is_wrong(path, size) else _by_soundfile(path)
    if by_soundfile is not None and _is_sure(by_soundfile, size):
        found = by_soundfile.source
    else:
        try:
            track = read_track(path)
        except DecodeError as error:
            if by_soundfile is None or not by_soundfile.source.num_samples:
                raise unreadable(path, str(error)) from error
            found = by_soundfile.source  # a format that only libsndfile knows
        else:
            samples = None if track.seconds is None or track.estimated else round(track.seconds * track.sample_rate)
            found = AudioSource(path, False, track.sample_rate, track.num_channels, samples)
    _check_kind(path, found.sample_rate, found.num_channels)
    if found.num_samples is not None:
        _check_length(path, found.num_samples / found.sample_rate)
    return found


@dataclass(frozen=True)
class _BySoundfile:
    source: AudioSource
    format: str
    subtype: str


def _by_soundfile(path: Path) -> _BySoundfile | None:
    """What libsndfile says; None where it cannot open the file, or cannot seek in it."""
    try:
        with path.open("rb") as stream, soundfile.SoundFile(stream.fileno(), closefd=False) as file:
            if not file.seekable():
                return None
            source = AudioSource(path, True, file.samplerate, file.channels, file.frames)
            return _BySoundfile(source, file.format, file.subtype)
    except (soundfile.LibsndfileError, OSError, ValueError):
        return None


def _is_sure(found: _BySoundfile, size: int) -> bool:
    """Whether libsndfile reads all of the file: by its size where samples have one, else by the packets that FFmpeg finds."""
    source = found.source
    if not source.num_samples:
        return False
    if found.format in PRECISE and found.subtype in BYTES:
        used = source.num_samples * source.num_channels * BYTES[found.subtype]
        if size - used <= max(SPARE_BYTES, size // 10):
            return True
    elif found.format not in PRECISE | PACKED:
        return False
    try:
        packets = count_packets(source.path)
    except DecodeError:
        return found.format not in PACKED
    spare = 1 if found.subtype in BYTES or found.format == "FLAC" else SPARE_SAMPLES
    if packets.damaged or packets.changing:
        return False
    same_kind = (packets.track.sample_rate, packets.track.num_channels) == (source.sample_rate, source.num_channels)
    return same_kind and abs(packets.seconds * source.sample_rate - source.num_samples) <= spare


@lru_cache(maxsize=100_000)
def _channel_to_take(path: Path, size: int, modified: int) -> int | None:
    return cancelling_channel(find_source(path).blocks(seconds=0.5))


def cancelling_channel(blocks: Iterable[tuple[Samples, int]]) -> int | None:
    """``channel_to_take`` of blocks ``(n, C)`` and their rates."""
    mean_energy, energies, heard = 0.0, np.zeros(0), 0.0
    for samples, rate in blocks:
        if len(energies) not in (0, samples.shape[1]):
            break
        powers = np.square(samples, dtype=np.float64).sum(0)
        if powers.max() < AUDIBLE_POWER * len(samples):
            continue
        energies = powers if len(energies) == 0 else energies + powers
        mean_energy += float(np.square(samples.mean(1), dtype=np.float64).sum())
        heard += len(samples) / rate
        if heard >= HEARD_SECONDS:
            break
    if len(energies) < 2 or not np.isfinite(energies).all() or mean_energy >= LOST_SHARE * energies.max():
        return None
    return int(energies.argmax())


def _check_kind(path: Path, rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioFileError(f"expected {RATES[0]} to {RATES[1]} samples a second in {path}, found {rate}; its header is wrong")
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioFileError(f"expected 1 to {MAX_CHANNELS} channels in {path}, found {channels}; its header is wrong, or mix it first")


def _check_length(path: Path, seconds: float) -> None:
    if seconds > 3600 * MAX_HOURS:
        raise AudioFileError(f"expected at most {MAX_HOURS:g} h of sound in {path}, found more; split it into several files")
