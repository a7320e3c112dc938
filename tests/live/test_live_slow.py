"""Who opens a connection and takes its time: cut off before its headers are whole, and never once a listener speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tiny_live import TinyServer, endless_pipeline, hear, run, tiny_server
from tiny_pipeline import RATE, recording

from valle.live import serve
from valle.live.protocol import Hello, pack_audio

PATIENCE = 0.4  # seconds, in place of HEADER_SECONDS
PIPELINE = endless_pipeline()


@asynccontextmanager
async def impatient_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TinyServer]:
    monkeypatch.setattr(serve, "HEADER_SECONDS", PATIENCE)
    async with tiny_server(PIPELINE) as there:
        yield there


async def connect(there: TinyServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(there.address.rsplit(":", 1)[1]))


async def trickle(writer: asyncio.StreamWriter, words: bytes) -> None:
    """A byte every 50 ms, of headers that never end."""
    for letter in words:
        writer.write(bytes([letter]))
        await asyncio.sleep(0.05)


async def seconds_until_cut_off(reader: asyncio.StreamReader) -> float:
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    return asyncio.get_running_loop().time() - started


@pytest.mark.parametrize("words", [b"", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + 100 * b"x"], ids=["silent", "trickling"])
def test_headers_that_do_not_come_in_time_end_the_connection(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with impatient_server(monkeypatch) as there:
            reader, writer = await connect(there)
            trickling = asyncio.create_task(trickle(writer, words))
            assert PATIENCE / 2 < await seconds_until_cut_off(reader) < PATIENCE + 2
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)
            writer.close()

    run(work())


def test_a_second_request_has_no_more_time_than_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with impatient_server(monkeypatch) as there:
            reader, writer = await connect(there)
            writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200 OK" in await reader.readuntil(b'"ok"}')
            trickling = asyncio.create_task(trickle(writer, b"GET /health HTTP/1.1\r\n" + 100 * b"x"))
            assert await seconds_until_cut_off(reader) < PATIENCE + 2
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)
            writer.close()

    run(work())


def test_a_listener_whose_prompt_takes_longer_is_heard_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"prompt_seconds": 0.5, "max_seconds": 0.3, "block_seconds": 0.2, "level": "none"}

    async def work() -> None:
        async with impatient_server(monkeypatch) as there, there.client.ws_connect(f"{there.address}/v1/live") as socket:
            await socket.send_bytes(Hello(protocol=1, sample_rate=RATE, **asked).message())
            await asyncio.sleep(2 * PATIENCE)
            await socket.send_bytes(pack_audio(recording(0.5), "pcm16"))
            heard = await hear(socket, "pcm16")
            assert heard.order[-1] == "done" and heard.close_code == 1000

    run(work())
