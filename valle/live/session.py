"""One listener's socket, from its hello to the end of the stream (docs/live-protocol.md)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

from valle.audio import Waveform
from valle.errors import UserError
from valle.given_audio import PromptError
from valle.inference.continuation import ContinueSettings
from valle.inference.pipeline import Pipeline
from valle.live.models import settings_for
from valle.live.prompt_feed import PromptFeed
from valle.live.protocol import (
    CLOSE_CODES,
    VERSION,
    EndedBy,
    Hello,
    Kind,
    ProtocolError,
    kind_of,
    pack,
    pack_audio,
    pack_error,
    pack_event,
    unpack,
    unpack_audio,
)  # fmt: skip
from valle.live.service import Service, StreamNotes
from valle.live.streams import OpenStream, StreamRequest

LOG = logging.getLogger(__name__)
MOST_BYTES = 2**20  # of a message
HELLO_SECONDS = 10.0  # until the hello is there
IDLE_SECONDS = 10.0  # between two messages of a prompt
SPARE_SECONDS = 30.0  # beside twice its length, that a prompt may take
CLOSE_SECONDS = 5.0  # for the other side to say goodbye
SLOW_SECONDS = 10.0  # that a listener may take to read what was sent, at once; in all so much more than the sound lasts


class Gone(Exception):
    """The listener has closed the socket."""


class Stopped(Exception):
    """The listener wants no more audio."""


class LiveSession:
    """What passes over one ``socket``; ``run`` returns when all of it is freed.  Who is not ``trusted`` yet must send the token."""

    def __init__(self, service: Service, socket: web.WebSocketResponse, transport: asyncio.Transport | None, *, trusted: bool) -> None:
        self.service, self.socket, self.trusted = service, socket, trusted
        self._transport = transport
        self.notes = StreamNotes()
        self._prompt_ended: float | None = None  # seconds of ``time.perf_counter``
        self._kept = list[Waveform]()  # with --save
        self._blocked = 0.0  # seconds that sending has waited for the reader

    async def run(self) -> None:
        try:
            await self._run()
        except ProtocolError as error:
            self.notes.outcome = error.code
            await self._end(CLOSE_CODES.get(error.code, 1008), pack_error(error))
        except (Gone, ConnectionError):
            self.notes.outcome = "gone"
        except Exception:
            LOG.exception("a stream failed")
            self.notes.outcome = "internal"
            await self._end(CLOSE_CODES["internal"], pack_error(ProtocolError("internal", "the server failed; its log says where")))
        self.service.note(self.notes)

    async def _run(self) -> None:
        hello = await self._hello()
        name, pipeline = self.service.shelf.choose(hello.model)
        self.service.refuse_beyond_limits(prompt_seconds=hello.prompt_seconds, max_seconds=hello.max_seconds)
        feed = PromptFeed(hello.sample_rate, hello.prompt_seconds)
        asked = StreamRequest(
            pipeline=pipeline, prompt=feed, sample_rate=hello.sample_rate, settings=_settings(pipeline, hello), seed=hello.seed,
            chunk_seconds=hello.chunk_seconds, ahead_seconds=hello.ahead_seconds,
        )  # fmt: skip
        moves = asyncio.Queue[int]()
        stream = self.service.open(asked, on_move=moves.put_nowait)
        self.notes.model = name
        try:
            await self._send(pack(Kind.HELLO, {
                "protocol": VERSION, "model": name, "sample_rate": pipeline.sample_rate, "format": hello.format,
            }))  # fmt: skip
            await _first_to_end(self._read(hello, feed), self._say_places(moves), self._write(hello, stream))
        except Stopped:
            self.notes.outcome = "stopped"
        except PromptError as error:
            raise ProtocolError("bad_prompt", str(error)) from error
        finally:
            await asyncio.shield(stream.close())
            self._note(feed, stream)
        await self.service.keep(stream, self._kept)
        await self._send(self._done(stream))
        await self._end(1000)

    async def _hello(self) -> Hello:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise ProtocolError("bad_hello", f"expected a hello within {HELLO_SECONDS:g} s, found none") from None
        if kind_of(message) is not Kind.HELLO:
            raise ProtocolError("bad_hello", f"expected a hello (kind 0) as the first message, found kind {message[0]}")
        hello = Hello.read(unpack(message))
        if not self.trusted and not self.service.guard.is_token(hello.token):
            raise ProtocolError("unauthorized", "expected the server's token in the hello, found another or none; ask who runs the server")
        return hello

    async def _receive(self) -> bytes:
        """The next message; raises ``Gone`` and ``ProtocolError``."""
        message = await self.socket.receive()
        if message.type is WSMsgType.TEXT:
            raise ProtocolError("bad_message", "expected binary messages, found text")
        if message.type is not WSMsgType.BINARY:
            raise Gone
        if len(message.data) > MOST_BYTES:
            raise ProtocolError("too_large", f"expected messages of at most {MOST_BYTES} bytes, found {len(message.data)}")
        content: bytes = message.data
        return content

    async def _read(self, hello: Hello, feed: PromptFeed) -> None:
        """The prompt, then whatever else is said; ends by raising."""
        until = time.monotonic() + 2 * hello.prompt_seconds + SPARE_SECONDS
        while True:
            left = min(IDLE_SECONDS, until - time.monotonic()) if self._prompt_ended is None else None
            try:
                async with asyncio.timeout(left):
                    message = await self._receive()
            except TimeoutError:
                raise ProtocolError("timeout", "expected the prompt or its end, found neither for too long") from None
            kind = kind_of(message)
            if kind is Kind.AUDIO:
                if self._prompt_ended is None:
                    feed.push(unpack_audio(message, hello.format))
                    if feed.is_full:
                        await self._say_prompt(feed, "full")
            elif kind is Kind.EVENT:
                event = unpack(message).get("type")
                if event == "stop":
                    raise Stopped
                if event != "end":
                    raise ProtocolError("bad_message", f"expected the event end or stop, found {event!r:.40}")
                if self._prompt_ended is None:
                    feed.end()
                    await self._say_prompt(feed, "end")
            else:
                raise ProtocolError("bad_message", f"expected audio and events after the hello, found kind {message[0]}")

    async def _say_prompt(self, feed: PromptFeed, ended_by: EndedBy) -> None:
        self._prompt_ended = time.perf_counter()
        seconds = feed.received / feed.sample_rate
        await self._send(pack_event("prompt", samples=feed.received, seconds=seconds, ended_by=ended_by))

    async def _say_places(self, moves: asyncio.Queue[int]) -> None:
        while True:
            await self._send(pack_event("queued", position=await moves.get()))

    async def _write(self, hello: Hello, stream: OpenStream) -> None:
        """The joint and all audio."""
        rate = stream.request.pipeline.sample_rate
        async for chunk in stream:
            if self.notes.first_audio is None:
                await self._say_joint(hello, stream)
                assert self._prompt_ended is not None, "a chunk follows the prompt"
                self.notes.first_audio = time.perf_counter() - self._prompt_ended
            await self._send(pack_audio(chunk, hello.format))
            self.notes.seconds += len(chunk) / rate
            if self.service.options.save is not None:
                self._kept.append(chunk)
        if stream.is_cancelled:
            raise ProtocolError("stopping", "the server was stopped before the stream had ended; try again when it is back")
        if self.notes.first_audio is None:  # nothing to add
            await self._say_joint(hello, stream)

    async def _say_joint(self, hello: Hello, stream: OpenStream) -> None:
        """And the prompt, where it is wanted."""
        live = stream.live
        assert live is not None, "who has a chunk has begun"
        sent = live.prompt if hello.include_prompt else live.prompt[:0]
        joint = {"prompt_samples": len(live.prompt), "own_samples": live.own_samples, "sent_samples": len(sent)}
        await self._send(pack_event("joint", **joint))
        for first in range(0, len(sent), live.sample_rate):
            await self._send(pack_audio(sent[first : first + live.sample_rate], hello.format))

    async def _send(self, message: bytes) -> None:
        """Waits for the reader, within limits; raises ``ProtocolError``."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(SLOW_SECONDS, SLOW_SECONDS + self.notes.seconds - self._blocked)), _earlier_wait_given_up():
                await self.socket.send_bytes(message)
        except TimeoutError:
            raise ProtocolError("slow_reader", "the audio was not read for too long") from None
        self._blocked += time.monotonic() - started

    async def _end(self, code: int, message: bytes | None = None) -> None:
        """A last message, and the end of the socket; who does not read it in time is cut off."""
        transport, until = self._transport, time.monotonic() + CLOSE_SECONDS
        try:
            async with asyncio.timeout(CLOSE_SECONDS), _earlier_wait_given_up():
                if message is not None:
                    await self.socket.send_bytes(message)
                await self.socket.close(code=code)
        except (TimeoutError, ConnectionError):
            pass
        while transport is not None and transport.get_write_buffer_size():
            if time.monotonic() > until:
                transport.abort()
                break
            await asyncio.sleep(0.05)

    def _note(self, feed: PromptFeed, stream: OpenStream) -> None:
        self.notes.prompt_seconds = feed.received / feed.sample_rate
        if stream.live is not None:
            self.notes.rtf = stream.live.real_time_factor

    def _done(self, stream: OpenStream) -> bytes:
        rate, notes = stream.request.pipeline.sample_rate, self.notes
        return pack_event(
            "done", samples=round(notes.seconds * rate), seconds=notes.seconds, rtf=notes.rtf, stopped=notes.outcome == "stopped",
            first_audio_ms=None if notes.first_audio is None else 1000 * notes.first_audio,
        )  # fmt: skip


@asynccontextmanager
async def _earlier_wait_given_up() -> AsyncIterator[None]:
    """Around sending: aiohttp's next wait for the reader ends as if cancelled where an earlier one was; what was sent is on its way."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise


async def _first_to_end(*parts: Coroutine[Any, Any, None]) -> None:
    """Until one of them returns or raises, which is raised; the others are cancelled."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()


def _settings(pipeline: Pipeline, hello: Hello) -> ContinueSettings:
    try:
        return settings_for(pipeline, hello)
    except UserError as error:
        raise ProtocolError("bad_hello", str(error)) from error
