"""The socket: the same as offline however the network splits the prompt, honest refusals, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_live import Heard, TinyServer, converse, cut, endless_pipeline, hear, nothing_left, run, tiny_server
from tiny_pipeline import RATE, recording

from valle.audio import resample
from valle.inference.continuation import ContinueSettings
from valle.live import session
from valle.live.protocol import Hello, pack_audio

PIPELINE = endless_pipeline()
ASKED: dict[str, Any] = {"prompt_seconds": 1.0, "max_seconds": 0.5, "block_seconds": 0.2, "level": "none"}
HELLO = Hello(protocol=1, sample_rate=RATE, format="float32", seed=3, **ASKED)


def offline(wav: np.ndarray, rate: int = RATE, **changed: Any) -> Any:
    [found] = PIPELINE.continue_audio(wav, rate, seed=3, settings=ContinueSettings(**{**ASKED, **changed}))
    return found


@settings(deadline=None, max_examples=10, derandomize=True)
@given(
    sizes=st.lists(st.integers(100, RATE), min_size=1, max_size=20),
    seconds=st.sampled_from([0.7, 1.4]),
    rate=st.sampled_from([RATE, 44100]),
)
def test_what_a_listener_hears_is_the_offline_continuation_however_the_prompt_is_split(sizes: list[int], seconds: float, rate: int) -> None:
    wav = resample(recording(seconds), RATE, rate)[: round(seconds * rate)]
    expected = offline(wav[: round(HELLO.prompt_seconds * rate)], rate)

    async def work() -> None:
        async with tiny_server(PIPELINE) as there:
            heard = await converse(there, Hello(protocol=1, sample_rate=rate, format="float32", seed=3, **ASKED), cut(wav, sizes))
            assert np.allclose(heard.wav, expected.wav[expected.prompt_samples :], atol=1e-5) and len(heard.wav) == round(0.5 * RATE)
            assert heard.order[:1] == ["hello"] and heard.order[-1] == "done" and heard.close_code == 1000
            told = heard.event("prompt")
            assert told["samples"] == min(len(wav), rate) and told["ended_by"] == ("full" if seconds > 1 else "end")
            joint = heard.event("joint")
            assert (joint["prompt_samples"], joint["own_samples"]) == (expected.prompt_samples, expected.own_samples)
            assert heard.order.index("prompt") < heard.order.index("joint") < heard.order.index("audio")

    run(work())


def test_with_its_prompt_what_is_heard_is_the_whole_and_done_says_how_long_it_took() -> None:
    expected = offline(recording(0.8))

    async def work() -> None:
        async with tiny_server(PIPELINE) as there:
            asked = Hello(protocol=1, sample_rate=RATE, format="pcm16", seed=3, include_prompt=True, **ASKED)
            heard = await converse(there, asked, [recording(0.8)])
            assert np.allclose(heard.wav, expected.wav, atol=1e-4)  # rounded to 16 bits
            assert heard.event("joint")["sent_samples"] == expected.prompt_samples
            done = heard.event("done")
            assert done["samples"] == len(expected.wav) - expected.prompt_samples and not done["stopped"]
            assert done["first_audio_ms"] > 0 and done["rtf"] > 0

    run(work())


def test_two_at_once_hear_what_each_would_alone_and_the_third_waits_for_its_turn() -> None:
    recordings = [recording(0.8, seed=number) for number in range(3)]
    expected = [offline(wav) for wav in recordings]

    async def work() -> None:
        async with tiny_server(PIPELINE, places=2, queue=1) as there:
            all_heard = await asyncio.gather(*(converse(there, HELLO, cut(wav, [1600])) for wav in recordings))
            for heard, one in zip(all_heard, expected, strict=True):
                assert np.allclose(heard.wav, one.wav[one.prompt_samples :], atol=1e-5)
            waited = [[event["position"] for event in heard.events if event["type"] == "queued"] for heard in all_heard]
            assert sorted(waited) == [[], [], [1, 0]]

    run(work())


def test_who_comes_when_all_places_are_taken_is_told_when_to_come_back() -> None:
    async def work() -> None:
        async with tiny_server(PIPELINE, places=1, queue=0) as there:
            async with there.client.ws_connect(f"{there.address}/v1/live") as first:
                await first.send_bytes(HELLO.message())
                await hear(first, "float32", until="hello")
                refused = await converse(there, HELLO, [], end=False)
                assert refused.error["code"] == "busy" and refused.error["retry_after"] >= 1 and refused.close_code == 1013
            await settled(there)
            assert (await converse(there, HELLO, [recording(1)])).close_code == 1000

    run(work())


async def settled(there: TinyServer) -> None:
    """Until the server has let go of every socket."""
    while there.service.handlers:
        await asyncio.sleep(0.01)


LATER = Hello(protocol=1, sample_rate=RATE, format="float32", prompt_seconds=1, max_seconds=60, level="none", block_seconds=0.2)


@pytest.mark.parametrize("when", ["hello", "prompt", "joint", "audio"])
@pytest.mark.parametrize("how", ["stop", "close", "abort"])
def test_a_listener_that_leaves_at_any_time_leaves_nothing_behind(when: str, how: str) -> None:
    async def leave(there: TinyServer) -> Heard:
        async with there.client.ws_connect(f"{there.address}/v1/live") as socket:
            await socket.send_bytes(LATER.message())
            for piece in [] if when == "hello" else cut(recording(1), [4000]):
                await socket.send_bytes(pack_audio(piece, "float32"))
            heard = await hear(socket, "float32", until=when)
            if how == "stop":
                await socket.send_bytes(b'\x02{"type": "stop"}')
                return await hear(socket, "float32", heard)
            if how == "abort":
                assert socket._response.connection is not None and socket._response.connection.transport is not None
                socket._response.connection.transport.abort()
            return heard

    async def work() -> None:
        async with tiny_server(PIPELINE, places=1, queue=0) as there:
            await converse(there, HELLO, [recording(1)])  # what is made once is there: threads, caches, a connection that is kept
            await settled(there)
            with nothing_left():
                heard = await leave(there)
                await settled(there)
                assert not there.service.pool.active
                await asyncio.sleep(0.05)
            if how == "stop":
                assert heard.event("done")["stopped"] and heard.close_code == 1000
            assert (await converse(there, HELLO, [recording(1)])).close_code == 1000

    run(work())


def test_who_does_not_read_is_dropped_and_its_place_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(session, "CLOSE_SECONDS", 0.2)

    async def work() -> None:
        async with tiny_server(PIPELINE, places=1, queue=0) as there:
            idle = socket.create_connection(there.address.removeprefix("http://").split(":"))  # type: ignore[arg-type]
            with idle:
                idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                idle.sendall(UPGRADE.encode())
                while not there.service.handlers:
                    await asyncio.sleep(0.01)
                for message in (LATER.message(), *(pack_audio(piece, "float32") for piece in cut(recording(1), [4000]))):
                    idle.sendall(masked(message))
                await settled(there)
                assert not there.service.pool.active
            counted = there.service.metrics.streams.labels("tiny", "slow_reader")._value.get()
            assert counted == 1

    run(work())


UPGRADE = (
    "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def masked(message: bytes) -> bytes:
    """A binary frame as a client sends it, with a mask of zeros."""
    head = struct.pack("!BBH", 0x82, 0x80 | 126, len(message)) if len(message) > 125 else struct.pack("!BB", 0x82, 0x80 | len(message))
    return head + bytes(4) + message


def test_a_prompt_that_stops_coming_in_ends_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "IDLE_SECONDS", 0.1)

    async def work() -> None:
        async with tiny_server(PIPELINE) as there:
            heard = await converse(there, HELLO, [recording(0.3)], end=False)
            assert heard.error["code"] == "timeout" and heard.close_code == 1008

    run(work())


@pytest.mark.parametrize(
    "messages, code",
    [
        ([b'\x00{"protocol": 2, "sample_rate": 16000}'], "bad_hello"),
        ([b'\x00{"protocol": 1, "sample_rate": 16000, "max_seconds": 1e6}'], "bad_hello"),
        ([b'\x00{"protocol": 1, "sample_rate": 16000, "model": "other"}'], "unknown_model"),
        ([b"\x01ab"], "bad_hello"),
        ([b"\x00" + b"[" * 100_000], "bad_message"),
        ([HELLO.message(), b"\x07"], "bad_message"),
        ([HELLO.message(), b""], "bad_message"),
        ([HELLO.message(), b"\x01abc"], "bad_message"),
        ([HELLO.message(), b"\x01\x00\x00\xc0\x7f"], "bad_message"),
        ([HELLO.message(), HELLO.message()], "bad_message"),
        ([HELLO.message(), b'\x02{"type": "pause"}'], "bad_message"),
        ([HELLO.message(), b"\x01" + bytes(2**20 + 4)], "too_large"),
        ([HELLO.message(), b'\x02{"type": "end"}'], "bad_prompt"),
        ([HELLO.message(), "text"], "bad_message"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(messages: list[bytes | str], code: str) -> None:
    async def work() -> None:
        async with tiny_server(PIPELINE) as there, there.client.ws_connect(f"{there.address}/v1/live") as socket:
            for message in messages:
                await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
            heard = await hear(socket, "float32")
            assert heard.error["code"] == code and "\n" not in heard.error["message"]
            assert heard.close_code == {"too_large": 1009}.get(code, 1008)

    run(work())


noise = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 5), st.binary(max_size=60)).map(lambda parts: bytes([parts[0]]) + parts[1]),
        st.sampled_from([b"", HELLO.message(), b'\x02{"type": "end"}', b'\x02{"type": "stop"}', b"\x01" + bytes(8000), b"\x02null"]),
        st.text(max_size=10),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(messages=noise, greeted=st.booleans())
def test_no_messages_stop_the_server_or_are_logged_as_a_traceback(messages: list[bytes | str], greeted: bool) -> None:
    async def work() -> None:
        async with tiny_server(PIPELINE) as there:
            async with there.client.ws_connect(f"{there.address}/v1/live") as socket:
                try:
                    for message in ([HELLO.message()] if greeted else []) + messages:
                        await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
                except ConnectionError:
                    pass
            await settled(there)
            assert not there.service.pool.active and not there.service.pool.waiting

    errors = list[logging.LogRecord]()
    handler = logging.Handler(logging.WARNING)
    handler.emit = errors.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        run(work())
    finally:
        logging.getLogger().removeHandler(handler)
    assert not errors, [record.getMessage() for record in errors]
