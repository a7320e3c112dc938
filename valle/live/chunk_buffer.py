"""New audio on its way from the thread that makes it to the event loop that sends it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from threading import Condition

from valle.audio import Waveform


class ChunkBuffer(AsyncIterator[Waveform]):
    """Chunks ``(n,)`` in order, at most ``most`` samples and one chunk more of them; the thread waits where nobody reads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._changed = Condition()  # guards all that follows
        self._chunks = deque[Waveform]()
        self._held = 0  # samples
        self._finished = self._closed = False
        self._error: BaseException | None = None

    def put(self, chunk: Waveform) -> bool:
        """By the thread: waits for room -> whether more is wanted."""
        with self._changed:
            if self._closed:
                return False
            self._chunks.append(chunk)
            self._held += len(chunk)
            self._loop.call_soon_threadsafe(self._readable.set)
            self._changed.wait_for(lambda: self._closed or self._held <= self._most)
            return not self._closed

    def wait(self, seconds: float) -> bool:
        """By the thread: waits so long, or until nothing more is wanted -> whether more is wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, timeout=max(0.0, seconds))
            return not self._closed

    def finish(self, error: BaseException | None = None) -> None:
        """By the thread: there are no more chunks; after the last one, the reader gets ``error``."""
        with self._changed:
            self._finished, self._error = True, error
        self._loop.call_soon_threadsafe(self._readable.set)

    def close(self) -> None:
        """By the reader: nothing more is wanted, and what is held is let go."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._changed.notify_all()
        self._readable.set()

    async def __anext__(self) -> Waveform:
        while True:
            with self._changed:
                if self._chunks:
                    chunk = self._chunks.popleft()
                    self._held -= len(chunk)
                    self._changed.notify_all()
                    return chunk
                if self._finished and self._error is not None and not self._closed:
                    raise self._error
                if self._finished or self._closed:
                    raise StopAsyncIteration
                self._readable.clear()
            await self._readable.wait()
