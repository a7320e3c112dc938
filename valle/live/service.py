"""What all connections of one server share: models, places, figures, and whether it is being stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from valle.audio import Waveform
from valle.live.guard import Guard
from valle.live.metrics import Metrics
from valle.live.models import ModelShelf
from valle.live.options import ServeOptions
from valle.live.protocol import ProtocolError
from valle.live.saving import save_stream
from valle.live.streams import OpenStream, PoolFull, StreamPool, StreamRequest
from valle.live.uploads import UploadDecoder

LOG = logging.getLogger(__name__)
RETRY_SECONDS = 5


@dataclass
class StreamNotes:
    """What is known of a stream at its end; seconds."""

    model: str = ""
    outcome: str = "done"  # or stopped, gone, or the code of an error
    first_audio: float | None = None  # from the prompt's end to the first new sample sent
    prompt_seconds: float = 0.0
    seconds: float = 0.0  # of new audio sent
    rtf: float = 0.0


@dataclass
class Service:
    """One server's state; it lives in the event loop alone."""

    options: ServeOptions
    shelf: ModelShelf
    pool: StreamPool
    guard: Guard
    metrics: Metrics = field(default_factory=Metrics)
    decoder: UploadDecoder = field(default_factory=UploadDecoder)
    uploads: int = 0
    handlers: set[asyncio.Task] = field(default_factory=set)  # what is on its way: sockets and files
    stopping: bool = False

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Around what a stop waits for; raises ``ProtocolError`` where there is too much of it already."""
        if len(self.handlers) >= self.options.max_sockets:
            raise ProtocolError("busy", "too many connections are open; try again in a moment", retry_after=RETRY_SECONDS)
        task = asyncio.current_task()
        assert task is not None
        self.handlers.add(task)
        try:
            yield
        finally:
            self.handlers.discard(task)

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Around a file in memory; raises ``ProtocolError`` where there are as many as listeners could be."""
        if self.stopping or self.uploads >= self.options.places_at_once + self.options.queue:
            raise ProtocolError("busy", "as many files are being read as can be; try again in a moment", retry_after=RETRY_SECONDS)
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1

    def open(self, request: StreamRequest, *, on_move: Callable[[int], None] | None = None) -> OpenStream:
        """A place, or one in the queue; raises ``ProtocolError`` where there is none."""
        if self.stopping:
            raise ProtocolError("stopping", "the server is being stopped; what plays is finished, and nothing new is begun")
        try:
            return self.pool.open(request, on_move=on_move)
        except PoolFull as full:
            raise ProtocolError("busy", str(full), retry_after=full.retry_after) from full

    def refuse_beyond_limits(self, *, prompt_seconds: float, max_seconds: float) -> None:
        """Raises ``ProtocolError``."""
        for name, value, most in (
            ("prompt_seconds", prompt_seconds, self.options.max_prompt_seconds),
            ("max_seconds", max_seconds, self.options.longest_seconds),
        ):
            if value > most:
                raise ProtocolError("bad_hello", f"expected {name} of at most {most:g} on this server, found {value:g}")

    def metrics_text(self) -> bytes:
        """What Prometheus reads."""
        self.metrics.active.set(len(self.pool.active))
        self.metrics.queued.set(len(self.pool.waiting))
        return self.metrics.text()

    async def keep(self, stream: OpenStream, chunks: Sequence[Waveform]) -> None:
        """With ``--save``, write what a stream heard and made; what cannot be written is logged."""
        if self.options.save is not None and stream.live is not None:
            try:
                await asyncio.to_thread(save_stream, self.options.save, stream.live.prompt, chunks, stream.live.sample_rate)
            except OSError as error:
                LOG.error("a stream could not be saved: %s", error)

    def note(self, notes: StreamNotes) -> None:
        """Into figures and log; neither has a word of who spoke."""
        metrics = self.metrics
        if not notes.model:
            metrics.refused.labels(notes.outcome).inc()
            LOG.info("refused: %s", notes.outcome)
            return
        metrics.streams.labels(notes.model, notes.outcome).inc()
        metrics.prompt_seconds.inc(notes.prompt_seconds)
        metrics.audio_seconds.inc(notes.seconds)
        if notes.first_audio is not None:
            metrics.first_audio.observe(notes.first_audio)
        if notes.outcome == "done" and notes.seconds:
            metrics.factor.observe(notes.rtf)
        LOG.info(
            "stream of %s: %s, %.1f s of prompt, %.1f s of new audio, first of it after %s, %.2f s of work a second",
            notes.model, notes.outcome, notes.prompt_seconds, notes.seconds,
            "-" if notes.first_audio is None else f"{1000 * notes.first_audio:.0f} ms", notes.rtf,
        )  # fmt: skip
