"""Listeners of a long benchmark on a machine that other work shares: they come in turns, and between two the machine is another's."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

REST_SECONDS = 5.0  # without the lock


class Turns:
    """Places for listeners, and with a ``lock`` turns in which they come: between two, all have left and the lock is another's."""

    def __init__(self, at_once: int, *, lock: Path | None, turn_seconds: float) -> None:
        self.at_once, self.lock, self.turn_seconds = at_once, lock, turn_seconds
        self._free = asyncio.Semaphore(at_once)
        self._file: int | None = None
        self._began: float | None = None  # this turn
        self._before = 0.0  # seconds of earlier turns

    @property
    def worked(self) -> float:
        """Seconds in turns so far."""
        return self._before + self._this_turn

    @property
    def _this_turn(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def __aenter__(self) -> Turns:
        await self._begin()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._let_go()

    async def take(self) -> None:
        """A place for one more listener."""
        if self.lock is not None and self._this_turn > self.turn_seconds:
            for _ in range(self.at_once):
                await self._free.acquire()
            self._let_go()
            await asyncio.sleep(REST_SECONDS)
            await self._begin()
            for _ in range(self.at_once):
                self._free.release()
        await self._free.acquire()

    def give(self) -> None:
        self._free.release()

    async def _begin(self) -> None:
        if self.lock is not None:
            self._file = os.open(self.lock, os.O_RDWR | os.O_CREAT)
            await asyncio.to_thread(fcntl.flock, self._file, fcntl.LOCK_EX)
        self._began = time.monotonic()

    def _let_go(self) -> None:
        self._before, self._began = self.worked, None
        if self._file is not None:
            os.close(self._file)
            self._file = None
