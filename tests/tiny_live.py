"""A live server of a tiny model on a port of this machine, and a client that speaks the protocol."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from tiny_pipeline import lean_to_end, tiny_released

from valle.audio import Waveform
from valle.inference.pipeline import Pipeline
from valle.live.models import ModelShelf
from valle.live.options import ServeOptions
from valle.live.protocol import Format, Hello, Kind, pack_audio, unpack, unpack_audio
from valle.live.serve import LiveServer, bound_socket


def endless_pipeline(**fields: Any) -> Pipeline:
    """Goes on until it is told to stop."""
    return Pipeline(lean_to_end(tiny_released(**fields), -1e9), engine="torch")


@dataclass
class TinyServer:
    server: LiveServer
    address: str
    client: aiohttp.ClientSession

    @property
    def service(self) -> Any:
        return self.server.service


@asynccontextmanager
async def tiny_server(pipeline: Pipeline, *, token: str | None = None, **flags: Any) -> AsyncIterator[TinyServer]:
    """``flags`` are options of the server; its one model is called tiny."""
    server = LiveServer(ServeOptions(port=0, **{"places": 2, **flags}), ModelShelf({"tiny": pipeline}), token)
    with bound_socket("127.0.0.1", 0) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that who does not read is noticed soon
        address = await server.start(listener)
        async with aiohttp.ClientSession() as client:
            try:
                yield TinyServer(server, address, client)
            finally:
                await server.stop(grace_seconds=0)


@dataclass
class Heard:
    """What a server said on one socket."""

    hello: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] = field(default_factory=dict)
    chunks: list[Waveform] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    close_code: int | None = None

    @property
    def wav(self) -> Waveform:
        return np.concatenate([np.zeros(0, np.float32), *self.chunks])

    def event(self, name: str) -> dict[str, Any]:
        [found] = [event for event in self.events if event["type"] == name]
        return found

    def take(self, message: bytes, form: Format) -> str:
        """One message -> its event's name, or hello, audio, error."""
        kind = Kind(message[0])
        name = kind.name.lower()
        if kind is Kind.AUDIO:
            self.chunks.append(unpack_audio(message, form))
        elif kind is Kind.EVENT:
            self.events.append(unpack(message))
            name = self.events[-1]["type"]
        else:
            setattr(self, name, unpack(message))
        self.order.append(name)
        return name


async def hear(socket: aiohttp.ClientWebSocketResponse, form: Format, heard: Heard | None = None, *, until: str = "") -> Heard:
    """All that comes, or up to the first of a name."""
    heard = Heard() if heard is None else heard
    async for message in socket:
        if heard.take(message.data, form) == until:
            return heard
    heard.close_code = socket.close_code
    return heard


async def converse(there: TinyServer, hello: Hello, pieces: Iterable[Waveform], *, end: bool = True) -> Heard:
    """One stream, from its hello to its end."""
    async with there.client.ws_connect(f"{there.address}/v1/live") as socket:
        await socket.send_bytes(hello.message())
        for piece in pieces:
            await socket.send_bytes(pack_audio(piece, hello.format))
        if end:
            await socket.send_bytes(b'\x02{"type": "end"}')
        return await hear(socket, hello.format)


def cut(wav: Waveform, sizes: Sequence[int]) -> Iterator[Waveform]:
    """``wav`` in pieces of these sizes, again and again."""
    place, number = 0, 0
    while place < len(wav):
        size = sizes[number % len(sizes)]
        yield wav[place : place + size]
        place, number = place + size, number + 1


@contextmanager
def nothing_left() -> Iterator[None]:
    """Within a running loop: no task, thread or descriptor more after than before."""
    before = _all_there_is()
    yield
    after = _all_there_is()
    kept = all(now <= then for now, then in zip(after, before, strict=True))
    assert kept, f"(tasks, threads, descriptors) were {before} and are {after}"


def _all_there_is() -> tuple[int, int, int]:
    return len(asyncio.all_tasks()), threading.active_count(), len(os.listdir("/proc/self/fd"))


def run(work: Coroutine[Any, Any, None]) -> None:
    """To its end, within a minute."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(limited())
