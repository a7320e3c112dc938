"""The live protocol, version 1 (docs/live-protocol.md): what a message holds, and what is refused.

A message is a byte of kind, then its content: JSON, or samples of one channel, little-endian.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from math import isfinite
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from valle.audio import Waveform, to_int16
from valle.inference.continuation import MIN_PROMPT_SECONDS
from valle.measures.level import Level

VERSION = 1
Format = Literal["pcm16", "float32"]
EndedBy = Literal["end", "full"]
MOST_SEED = 2**53 - 1  # what a page can write exactly
RATES = (8000, 192000)  # Hz, of a microphone
CHUNK_SECONDS = (0.02, 2.0)
BLOCK_SECONDS = (0.02, 10.0)
TEMPERATURES = (0.01, 10.0)
AHEAD_SECONDS = (0.5, 3600.0)
PEAK = 10.0  # of float32: mixes pass 1 by a little


class Kind(IntEnum):
    """The first byte of a message."""

    HELLO, AUDIO, EVENT, ERROR = 0, 1, 2, 3


class ProtocolError(Exception):
    """A message, a hello or a prompt that is refused: its ``code``, and one line for people."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code, self.more = code, more


CLOSE_CODES = {"too_large": 1009, "busy": 1013, "stopping": 1001, "internal": 1011}  # of a socket after an error; 1008 after all others


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What a client asks for; seconds, Hz."""

    protocol: int
    sample_rate: int
    format: Format = "pcm16"
    model: str | None = None
    prompt_seconds: float = 3.0
    max_seconds: float = 10.0
    min_seconds: float | None = None
    seed: int = 0
    temperature: float | None = None
    level: Level | None = None
    chunk_seconds: float = 0.1
    block_seconds: float | None = None
    ahead_seconds: float | None = None
    include_prompt: bool = False
    token: str | None = None

    def __post_init__(self) -> None:
        if self.protocol != VERSION:
            raise ProtocolError("bad_hello", f"expected protocol {VERSION}, found {self.protocol}; use a client of that version")
        if self.format not in get_args(Format):
            raise ProtocolError("bad_hello", f"expected the format {' or '.join(get_args(Format))}, found {self.format!r:.40}")
        if self.level not in (None, *get_args(Level)):
            raise ProtocolError("bad_hello", f"expected the level {', '.join(get_args(Level))} or null, found {self.level!r:.40}")
        _refuse_outside("sample_rate", self.sample_rate, *RATES)
        _refuse_outside("prompt_seconds", self.prompt_seconds, MIN_PROMPT_SECONDS, float("inf"))
        _refuse_outside("max_seconds", self.max_seconds, 0.02, float("inf"))
        _refuse_outside("min_seconds", self.min_seconds, 0, self.max_seconds)
        _refuse_outside("seed", self.seed, 0, MOST_SEED)
        _refuse_outside("temperature", self.temperature, *TEMPERATURES)
        _refuse_outside("chunk_seconds", self.chunk_seconds, *CHUNK_SECONDS)
        _refuse_outside("block_seconds", self.block_seconds, *BLOCK_SECONDS)
        _refuse_outside("ahead_seconds", self.ahead_seconds, *AHEAD_SECONDS)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Hello:
        """Of a message's JSON; raises ``ProtocolError``."""
        hints = get_type_hints(cls)
        for name, value in content.items():
            if name not in hints:
                raise ProtocolError("bad_hello", f"expected fields of protocol {VERSION}, found {name!r:.40}; leave it out")
            if not _is(hints[name], value):
                raise ProtocolError("bad_hello", f"expected {_said(hints[name])} for {name}, found {value!r:.40}")
        for name in ("protocol", "sample_rate"):
            if name not in content:
                raise ProtocolError("bad_hello", f"expected {name} in the hello, found none")
        values: dict[str, Any] = {name: float(value) if _wants_float(hints[name], value) else value for name, value in content.items()}
        return cls(**values)

    def message(self) -> bytes:
        """As a client sends it, without the fields that have their defaults."""
        defaults = {entry.name: entry.default for entry in fields(self)}
        return pack(Kind.HELLO, {name: value for name, value in asdict(self).items() if value != defaults[name]})


def pack(kind: Kind, content: Mapping[str, Any]) -> bytes:
    """A message of JSON."""
    return bytes([kind]) + json.dumps(content, allow_nan=False).encode()


def pack_event(name: str, **content: Any) -> bytes:
    return pack(Kind.EVENT, {"type": name, **content})


def pack_error(error: ProtocolError) -> bytes:
    return pack(Kind.ERROR, {"code": error.code, "message": str(error), **error.more})


def pack_audio(wav: Waveform, form: Format) -> bytes:
    """A message of the samples ``(n,)``."""
    return bytes([Kind.AUDIO]) + samples_as_bytes(wav, form)


def samples_as_bytes(wav: Waveform, form: Format) -> bytes:
    return wav.astype("<f4").tobytes() if form == "float32" else to_int16(wav).astype("<i2").tobytes()


def kind_of(message: bytes) -> Kind:
    """Raises ``ProtocolError`` where there is none that is known."""
    if not message or message[0] not in tuple(Kind):
        raise ProtocolError("bad_message", f"expected a first byte of 0 to 3, found {message[:1].hex() or 'an empty message'}")
    return Kind(message[0])


def unpack(message: bytes) -> dict[str, Any]:
    """The JSON of a message; raises ``ProtocolError``."""
    try:
        content = json.loads(message[1:].decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("bad_message", "expected JSON in UTF-8 after the first byte, found something else") from error
    if not isinstance(content, dict):
        raise ProtocolError("bad_message", f"expected a JSON object after the first byte, found {type(content).__name__}")
    return content


def unpack_audio(message: bytes, form: Format) -> Waveform:
    """Samples ``(n,)`` float32 of a message; raises ``ProtocolError``."""
    content, size = memoryview(message)[1:], 4 if form == "float32" else 2
    if len(content) % size:
        raise ProtocolError("bad_message", f"expected whole samples of {size} bytes, found {len(content)} bytes")
    if form == "pcm16":
        return np.frombuffer(content, "<i2").astype(np.float32) / np.float32(32768)
    wav = np.frombuffer(content, "<f4").astype(np.float32)
    if not np.isfinite(wav).all() or np.abs(wav).max(initial=0.0) > PEAK:
        raise ProtocolError("bad_message", "expected finite samples within -1..1, found others")
    return wav


def _refuse_outside(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (least <= value <= most and isfinite(value)):
        raise ProtocolError("bad_hello", f"expected {name} from {least} to {most}, found {value!r:.40}")


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _is(hint: Any, value: Any) -> bool:
    """Whether a value of JSON has the type of a field; a number without a fraction may stand for a float."""
    kinds = _kinds(hint)
    if isinstance(value, bool):
        return bool in kinds
    return type(value) in kinds or (type(value) is int and float in kinds and abs(value) <= MOST_SEED)


def _wants_float(hint: Any, value: Any) -> bool:
    return type(value) is int and float in _kinds(hint)


def _kinds(hint: Any) -> set[type]:
    """The plain types of a field's type: ``float | None`` is both, a ``Literal`` is str."""
    inner = get_args(hint)
    if not inner:
        return {hint}
    return {str} if all(isinstance(value, str) for value in inner) else set().union(*(_kinds(part) for part in inner))


def _said(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return " or ".join(sorted(names[kind] for kind in _kinds(hint)))
