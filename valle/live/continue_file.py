"""``POST /v1/continue``: a file in, the voice that goes on out, whole or while it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
from aiohttp import web

from valle.audio import Waveform, wav_bytes
from valle.errors import UserError
from valle.inference.live import LiveContinuation
from valle.inference.sound_output import SoundFormat, wav_header
from valle.live.keys import SERVICE
from valle.live.models import settings_for
from valle.live.protocol import VERSION, Hello, ProtocolError, samples_as_bytes
from valle.live.service import Service, StreamNotes
from valle.live.session import SLOW_SECONDS
from valle.live.streams import OpenStream, StreamRequest

BODY_SECONDS = 60.0  # that a body may take to come
SPARE_SECONDS = 0.5  # of a file that are decoded beside the prompt, so that the prompt's end is resampled as in the whole file
OF_HELLO = ("model", "prompt_seconds", "max_seconds", "min_seconds", "seed", "temperature", "level", "block_seconds", "include_prompt")
WORDS: Mapping[str, Any] = {"true": True, "false": False}


@dataclass(frozen=True)
class Asked:
    """The query of a request."""

    hello: Hello
    format: SoundFormat = "wav"
    stream: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Asked:
        """Raises ``ProtocolError``."""
        hints, content, own = get_type_hints(Hello), dict[str, Any](), dict[str, Any]()
        for name, text in query.items():
            if name == "format" and text in get_args(SoundFormat):
                own[name] = text
            elif name == "stream" and text in WORDS:
                own[name] = WORDS[text]
            elif name in OF_HELLO:
                content[name] = _value(text, hints[name])
            else:
                raise ProtocolError("bad_request", f"expected {', '.join(('format', 'stream', *OF_HELLO))}, found {name}={text}"[:200])
        return cls(Hello.read({"protocol": VERSION, "sample_rate": 16000, **content}), **own)


async def continue_file(request: web.Request) -> web.StreamResponse:
    """The body is the file."""
    service, asked = request.app[SERVICE], Asked.read(request.query)
    name, pipeline = service.shelf.choose(asked.hello.model)
    service.refuse_beyond_limits(prompt_seconds=asked.hello.prompt_seconds, max_seconds=asked.hello.max_seconds)
    with service.handling():
        wav, rate = await _prompt(request, service, asked.hello.prompt_seconds)
        try:
            settings = settings_for(pipeline, asked.hello)
        except UserError as error:
            raise ProtocolError("bad_request", str(error)) from error
        stream = service.open(
            StreamRequest(pipeline=pipeline, prompt=wav, sample_rate=rate, settings=settings, seed=asked.hello.seed)
        )  # fmt: skip
        notes = StreamNotes(model=name)
        try:
            return await _answer(request, stream, asked, notes)
        except UserError as error:
            notes.outcome = "bad_prompt"
            raise ProtocolError("bad_prompt", str(error)) from error
        except ConnectionError:
            notes.outcome = "gone"
            raise
        except ProtocolError as error:
            notes.outcome = error.code
            raise
        finally:
            await asyncio.shield(stream.close())
            if stream.live is not None:
                notes.prompt_seconds, notes.rtf = len(stream.live.prompt) / pipeline.sample_rate, stream.live.real_time_factor
            service.note(notes)


async def _prompt(request: web.Request, service: Service, seconds: float) -> tuple[Waveform, int]:
    """The file's beginning; raises ``ProtocolError``."""
    with service.uploading():
        try:
            async with asyncio.timeout(BODY_SECONDS):
                content = await request.read()
        except TimeoutError:
            raise ProtocolError("timeout", f"expected all of the file within {BODY_SECONDS:g} s, found a part of it") from None
        except web.HTTPRequestEntityTooLarge:
            most = f"{service.options.max_body_mib:g} MiB"
            raise ProtocolError("too_large", f"expected a file of at most {most}, found a larger one; send its beginning") from None
        if not content:
            raise ProtocolError("bad_prompt", "expected an audio file as the body, found nothing; curl --data-binary @FILE sends one")
        return await service.decoder.decode(content, seconds + SPARE_SECONDS)


async def _answer(request: web.Request, stream: OpenStream, asked: Asked, notes: StreamNotes) -> web.StreamResponse:
    service, rate = request.app[SERVICE], stream.request.pipeline.sample_rate
    form: Literal["pcm16", "float32"] = "float32" if asked.format == "float32" else "pcm16"
    response, held = web.StreamResponse(), list[Waveform]()
    async for chunk in stream:
        live = stream.live
        assert live is not None
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        if not asked.stream or service.options.save is not None:
            held.append(chunk)
        if asked.stream:
            if not response.prepared:
                _describe(response, live, asked)
                await response.prepare(request)
                before = live.prompt if asked.hello.include_prompt else live.prompt[:0]
                await response.write((wav_header(rate) if asked.format == "wav" else b"") + samples_as_bytes(before, form))
            await _write(response, samples_as_bytes(chunk, form))
        notes.seconds += len(chunk) / rate
    if stream.is_cancelled:
        raise ProtocolError("stopping", "the server was stopped before the stream had ended; try again when it is back")
    await service.keep(stream, held)
    if response.prepared:
        await response.write_eof()
        return response
    assert stream.live is not None, "who has ended has begun"
    empty = np.zeros(0, np.float32)
    wav = np.concatenate([stream.live.prompt if asked.hello.include_prompt else empty, *held])
    answer = web.Response(body=bytes(wav_bytes(wav, rate)) if asked.format == "wav" else samples_as_bytes(wav, form))
    _describe(answer, stream.live, asked)
    return answer


def _describe(response: web.StreamResponse, live: LiveContinuation, asked: Asked) -> None:
    """What the socket's joint says, as headers."""
    response.content_type = "audio/wav" if asked.format == "wav" else "application/octet-stream"
    response.headers["Valle-Sample-Rate"] = str(live.sample_rate)
    response.headers["Valle-Prompt-Samples"] = str(len(live.prompt))
    response.headers["Valle-Own-Samples"] = str(live.own_samples)


async def _write(response: web.StreamResponse, content: bytes) -> None:
    try:
        async with asyncio.timeout(SLOW_SECONDS):
            await response.write(content)
    except TimeoutError:
        raise ConnectionResetError("the audio was not read for too long") from None


def _value(text: str, hint: Any) -> Any:
    """Of a query, as JSON would have it; a text where a text is wanted."""
    if text in WORDS:
        return WORDS[text]
    for kind in (int, float):
        if kind in (hint, *get_args(hint)):
            try:
                return kind(text)
            except ValueError:
                continue
    return text
