"""Streams of several listeners at once: a bounded number of threads, and a queue before them.

``StreamPool.open`` is all that the server asks for, so that what batches the streams of one model can stand in the place of threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

import torch

from valle.audio import Waveform
from valle.inference.continuation import ContinueSettings
from valle.inference.live import LiveContinuation
from valle.inference.pipeline import Pipeline
from valle.live.chunk_buffer import ChunkBuffer
from valle.live.prompt_feed import PromptFeed, StreamCancelled

HELD_SECONDS = 5.0  # of sound that nobody has read yet; then a stream waits
FIRST_GUESS = 5.0  # seconds that a stream takes, before one has ended


class PoolFull(Exception):
    """All places and the whole queue are taken; after ``retry_after`` seconds there may be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"all places and the whole queue are taken; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """One continuation: of a prompt that comes in by a feed, or of a whole recording ``(T,)``."""

    pipeline: Pipeline
    prompt: PromptFeed | Waveform
    sample_rate: int  # Hz, of the prompt
    settings: ContinueSettings
    seed: int
    chunk_seconds: float = 0.1
    ahead_seconds: float | None = None  # of its playing that new audio may run ahead

    def start(self) -> LiveContinuation:
        """Reads nothing yet."""
        return self.pipeline.stream(
            self.prompt, self.sample_rate, seed=self.seed, settings=self.settings, chunk_seconds=self.chunk_seconds
        )


class OpenStream(AsyncIterator[Waveform]):
    """New audio ``(n,)`` of one listener while later audio is made; raises what the pipeline raises, at the chunk where it does.

    ``live`` is there once the work has begun: what it tells may be looked at, but nothing may be asked of it.
    """

    def __init__(
        self, request: StreamRequest, *, on_move: Callable[[int], None] | None, on_cancel: Callable[[OpenStream], None]
    ) -> None:
        self.request, self.position = request, 0  # in the queue; 0 once the work has begun
        self.live: LiveContinuation | None = None
        self.finished = asyncio.Event()  # nothing works for this stream any more
        self._on_move, self._on_cancel = on_move, on_cancel
        self.is_cancelled = False
        self._buffer = ChunkBuffer(round(HELD_SECONDS * request.pipeline.sample_rate))

    async def __anext__(self) -> Waveform:
        return await anext(self._buffer)

    def cancel(self) -> None:
        """Ask for the end of all work."""
        self.is_cancelled = True
        self._buffer.close()
        if isinstance(self.request.prompt, PromptFeed):
            self.request.prompt.cancel()
        self._on_cancel(self)

    async def close(self) -> None:
        """Nothing of this stream is left when it returns."""
        self.cancel()
        await self.finished.wait()

    def move(self, position: int) -> None:
        """Another place in the queue."""
        if position != self.position:
            self.position = position
            if self._on_move is not None:
                self._on_move(position)

    def work(self) -> None:
        """All of the stream, in a thread."""
        error: BaseException | None = None
        try:
            self._make()
        except StreamCancelled:
            pass
        except Exception as raised:
            error = raised
        self._buffer.finish(error)

    def _make(self) -> None:
        most_ahead, started = self.request.ahead_seconds, None
        with self.request.start() as live:
            self.live = live
            for chunk in live:
                started = started or time.perf_counter()
                if not self._buffer.put(chunk):
                    return
                if most_ahead is not None:
                    played = time.perf_counter() - started
                    if not self._buffer.wait(live.generated_seconds - played - most_ahead):
                        return


class StreamPool:
    """``places`` streams at once, and a ``queue`` of so many that wait for a place."""

    def __init__(self, *, places: int, queue: int) -> None:
        self.places, self.queue = places, queue
        self.active = set[OpenStream]()
        self.waiting = list[OpenStream]()
        self._threads = ThreadPoolExecutor(places, "valle-stream", initializer=torch.set_num_threads, initargs=(1,))
        self._tasks = set[asyncio.Task[None]]()
        self._usual_seconds = FIRST_GUESS

    def open(self, request: StreamRequest, *, on_move: Callable[[int], None] | None = None) -> OpenStream:
        """A stream that is worked on as soon as there is a place; ``on_move`` hears of its places in the queue.  Raises ``PoolFull``."""
        if len(self.active) >= self.places and len(self.waiting) >= self.queue:
            raise PoolFull(max(1, ceil(self._usual_seconds / self.places)))
        stream = OpenStream(request, on_move=on_move, on_cancel=self._leave_queue)
        self.waiting.append(stream)
        self._advance()
        return stream

    def refuse_waiting(self) -> None:
        """Those that wait are cancelled."""
        for stream in list(self.waiting):
            stream.cancel()

    def cancel_all(self) -> None:
        """Those that wait and those that play are cancelled."""
        self.refuse_waiting()
        for stream in list(self.active):
            stream.cancel()

    def close(self) -> None:
        """Ends the threads, once all streams have ended."""
        self._threads.shutdown()

    def _advance(self) -> None:
        """Whoever is next takes a free place."""
        while self.waiting and len(self.active) < self.places:
            stream = self.waiting.pop(0)
            self.active.add(stream)
            task = asyncio.get_running_loop().create_task(self._work(stream))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            stream.move(0)
        for place, stream in enumerate(self.waiting, 1):
            stream.move(place)

    async def _work(self, stream: OpenStream) -> None:
        started = time.perf_counter()
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, stream.work)
        finally:
            self._usual_seconds += 0.2 * (time.perf_counter() - started - self._usual_seconds)
            self.active.discard(stream)
            stream.finished.set()
            self._advance()

    def _leave_queue(self, stream: OpenStream) -> None:
        if stream in self.waiting:
            self.waiting.remove(stream)
            stream.finished.set()
            self._advance()
