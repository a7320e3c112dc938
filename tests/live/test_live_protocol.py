"""Messages: what is packed is unpacked, and every field is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.audio import to_int16
from valle.live.protocol import CLOSE_CODES, Hello, Kind, ProtocolError, kind_of, pack_audio, unpack, unpack_audio

DOCUMENT = (Path(__file__).parents[2] / "docs" / "live-protocol.md").read_text(encoding="utf-8")
LEAST = {"protocol": 1, "sample_rate": 48000}


def test_a_hello_is_read_as_it_was_sent() -> None:
    wanted = {"prompt_seconds": 2.5, "seed": 2**53 - 1, "level": "none", "temperature": 0.7, "include_prompt": True, "token": "é"}
    sent = Hello(**LEAST, format="float32", **wanted)
    assert Hello.read(unpack(sent.message())) == sent
    assert Hello.read({**LEAST, "max_seconds": 4}).max_seconds == 4.0


@pytest.mark.parametrize(
    "changed",
    [
        {"protocol": 2}, {"protocol": "1"}, {"sample_rate": 7999}, {"sample_rate": 16000.5}, {"sample_rate": True}, {"format": "mp3"},
        {"format": 1}, {"model": 3}, {"prompt_seconds": 0.1}, {"prompt_seconds": None}, {"max_seconds": 0}, {"max_seconds": float("inf")},
        {"min_seconds": 11.0}, {"seed": -1}, {"seed": 2**53}, {"seed": 10**400}, {"seed": 1.5}, {"temperature": 0}, {"temperature": "1"},
        {"level": "loud"}, {"chunk_seconds": 0.001}, {"block_seconds": 11}, {"ahead_seconds": 0.1}, {"include_prompt": 1}, {"token": 1},
        {"chunk": 1}, {"max_seconds": 10**400},
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_used_is_named(changed: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=next(iter(changed))) as refused:
        Hello.read({**LEAST, **changed})
    assert refused.value.code == "bad_hello" and len(str(refused.value)) < 200


def test_a_hello_without_protocol_or_rate_is_refused() -> None:
    for name in LEAST:
        with pytest.raises(ProtocolError, match=f"expected {name} in the hello"):
            Hello.read({key: value for key, value in LEAST.items() if key != name})


@given(st.lists(st.floats(-1, 1, width=32), max_size=50))
def test_samples_come_out_as_they_went_in(samples: list[float]) -> None:
    wav = np.array(samples, np.float32)
    assert np.array_equal(unpack_audio(pack_audio(wav, "float32"), "float32"), wav)
    once = unpack_audio(pack_audio(wav, "pcm16"), "pcm16")
    assert np.array_equal(once, to_int16(wav).astype(np.float32) / 32768)
    assert np.array_equal(unpack_audio(pack_audio(once, "pcm16"), "pcm16"), once)


@settings(max_examples=300, derandomize=True)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_a_code(message: bytes) -> None:
    for read in (kind_of, unpack, lambda given: Hello.read(unpack(given)), lambda given: unpack_audio(given, "float32")):
        try:
            read(message)  # type: ignore[no-untyped-call]
        except ProtocolError as refused:
            assert refused.code in ("bad_message", "bad_hello")


@pytest.mark.parametrize("content", [b"NaN", b"[]", b"null", b'{"a": NaN}', b"\xff", b"[" * 10_000, b""])
def test_json_that_is_no_object_is_refused(content: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected") as refused:
        unpack(b"\2" + content)
    assert refused.value.code == "bad_message"


def test_the_document_names_every_field_kind_and_code() -> None:
    for name in (*Hello.__dataclass_fields__, *CLOSE_CODES, "bad_prompt", "slow_reader", "unknown_model", "unauthorized", "timeout"):
        assert f"`{name}`" in DOCUMENT, name
    for kind in Kind:
        assert f"| {kind.value} | {kind.name.lower()} |" in DOCUMENT
    for code, close in CLOSE_CODES.items():
        assert any(line.startswith(f"| `{code}`") and line.endswith(f"| {close} |") for line in DOCUMENT.splitlines()), code
