"""Sound through FFmpeg's libraries (PyAV): which container it is, is found from the content, among those of a list.

The file is opened by us and handed over as a stream without a name, so neither its suffix nor anything in it decides what else is
opened: no playlist, no other file, no address. PyAV is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# Containers of sound, and of films with sound. Nothing that names other files (hls, dash, concat, image2, sdp, ...).
DEMUXERS = (
    "aac,ac3,aea,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,"
    "nut,ogg,oma,qcp,qoa,rm,shn,sox,tak,truehd,tta,voc,w64,wav,wsd,wv,xwma"
)
ESTIMATED = frozenset({"aac", "ac3", "amr", "dts", "dtshd", "eac3", "loas", "mlp", "mp3", "mpeg", "mpegts", "truehd"})  # say no length
LOST_SECONDS = 0.3  # of packets that cannot be decoded: tags and the end of a file, not a hole in the sound
NOT_KNOWN = "Format not recognised"
NO_TRACK, NO_SENSE = "holds no audio track", "its header makes no sense"
READ_AT_ONCE = 2**16  # bytes


class DecodeError(Exception):
    """What FFmpeg says of a file that it cannot read."""


@dataclass(frozen=True)
class Track:
    """The track of sound that is read, as the container describes it; what is decoded may differ, and change on the way."""

    container: str
    codec: str
    sample_rate: int  # Hz
    num_channels: int
    seconds: float | None  # None where nothing tells
    estimated: bool  # the seconds are a guess from the size, or may be of the first of several files only


@dataclass(frozen=True)
class Packets:
    """All packets of a track, counted without decoding them."""

    track: Track
    seconds: float
    damaged: bool
    changing: bool  # the rate or the number of channels, as headers of mpeg audio show it


def read_track(path: Path) -> Track:
    """What the container says of its sound; raises ``DecodeError``."""
    with _opened(path) as (container, stream):
        return _track(container, stream)


def count_packets(path: Path) -> Packets:
    """How long the packets say that the sound is; raises ``DecodeError``."""
    with _opened(path) as (container, stream):
        total, damaged, kinds = 0, False, set()
        is_mpeg = str(stream.codec_context.name).startswith(("mp1", "mp2", "mp3"))
        for packet in container.demux(stream):
            if packet.size:
                total += packet.duration or 0
                damaged = damaged or packet.is_corrupt
                if is_mpeg and packet.size >= 4:
                    kinds.add(_mpeg_kind(bytes(memoryview(packet)[:4])))
        return Packets(track=_track(container, stream), seconds=float(total * stream.time_base), damaged=damaged, changing=len(kinds) > 1)


def decode(
    source: Path | BinaryIO, *, block_seconds: float = 0.5, demuxers: str = DEMUXERS
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Blocks ``(n, C)`` float32 and their rate in Hz, in order; both the rate and C may change from one block to the next.

    ``source`` is a file's path, or its content as a stream that can be sought in.  ``demuxers`` are the containers that are known.
    Raises ``DecodeError``, also on the way where more is damaged than tags between two files.
    """
    with _opened(source, demuxers) as (container, stream):
        held: list[NDArray[np.float32]] = []
        rate = 0
        for frame in _frames(container, stream):
            samples = _samples(frame)
            if held and (frame.rate != rate or samples.shape[1] != held[0].shape[1]):
                yield np.concatenate(held), rate
                held = []
            rate = int(frame.rate)
            held.append(samples)
            if sum(map(len, held)) >= block_seconds * rate:
                yield np.concatenate(held), rate
                held = []
        if held:
            yield np.concatenate(held), rate


def _mpeg_kind(head: bytes) -> tuple[int, int, bool]:
    """Version and layer, sample rate, and whether there is one channel, of a frame of mpeg audio."""
    return head[1] & 0x1E, head[2] & 0x0C, head[3] >> 6 == 3


class _Nameless:
    """A file that says nothing of its name, so that its suffix cannot count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _opened(source: Path | BinaryIO, demuxers: str = DEMUXERS) -> Iterator[tuple[Any, Any]]:
    """The container and its best track of sound."""
    import av

    try:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
            options = {"format_whitelist": demuxers, "protocol_whitelist": "none"}
            try:
                opened = av.open(_Nameless(file), options=options, buffer_size=READ_AT_ONCE, metadata_errors="replace")
            except av.error.ArgumentError as error:  # a format that is not on the list
                raise DecodeError(NOT_KNOWN) from error
            with opened as container:
                stream = container.streams.best("audio")
                if stream is None:
                    raise DecodeError(NO_SENSE if container.streams.audio else NO_TRACK)
                if not stream.codec_context or not stream.codec_context.codec.is_decoder:
                    raise DecodeError("its codec is not known")
                yield container, stream
    except (av.error.FFmpegError, OSError, ValueError, OverflowError) as error:
        raise DecodeError(said(error)) from error


def said(error: BaseException) -> str:
    """What a library says of a file, without the file's name."""
    if "patches welcome" in str(error):
        return "its rate or its channels change on the way, which FFmpeg does not read in this format"
    if "Invalid data found" in str(error):
        return NOT_KNOWN
    words = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
    return " ".join(str(words).split()).removeprefix("Error : ").strip(" .") or type(error).__name__


def _track(container: Any, stream: Any) -> Track:
    name, seconds = str(container.format.name), None
    if stream.duration:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / 1e6
    return Track(
        container=name, codec=str(stream.codec_context.name), sample_rate=int(stream.rate or 0), num_channels=int(stream.channels or 0),
        seconds=seconds, estimated=name in ESTIMATED,
    )  # fmt: skip


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; what cannot be decoded is passed over as players do, within limits."""
    import av

    lost, last = 0.0, None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except (av.error.InvalidDataError, av.error.EOFError) as error:
            lost, last = lost + float((packet.duration or 0) * stream.time_base), error
            continue
        if frames:
            _refuse_holes(lost, last)
            lost = 0.0
        yield from (frame for frame in frames if frame.samples)
    _refuse_holes(lost, last)


def _refuse_holes(lost: float, error: Exception | None) -> None:
    if lost > LOST_SECONDS:
        raise DecodeError(f"{lost:.1f} s of it are damaged") from error


def _samples(frame: Any) -> NDArray[np.float32]:
    """``(n, C)`` of a frame, about -1..1."""
    given = frame.to_ndarray()
    channels = len(frame.layout.channels)
    given = given.T if frame.format.is_planar else given.reshape(-1, channels)
    if given.dtype.kind == "f":
        return given.astype(np.float32)
    if given.dtype == np.uint8:
        return ((given.astype(np.float32) - 128) / 128).astype(np.float32)
    return (given.astype(np.float64) / 2.0 ** (8 * given.dtype.itemsize - 1)).astype(np.float32)
