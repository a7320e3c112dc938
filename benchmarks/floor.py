"""What no decoding step can be faster than: reading each byte of its weights and its cache once.

Three programs read the same buffer, by numpy's sum, torch's sum and a compiled loop, with as many threads as the step; the
fastest of them is the floor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


def bytes_of_step(d_model: int, num_layers: int, *, vocabulary: int, batch: int, length: int, dtype: str) -> int:
    """Weights of every product once, the head's in float32, and keys and values of ``length`` positions a row: bfloat16 unless float32."""
    matrices = 12 * d_model * d_model * num_layers  # qkv 3, out 1, feed-forward 2 x 4
    cache = 2 * num_layers * batch * length * d_model
    return matrices * BYTES[dtype] + 4 * vocabulary * d_model + (4 if dtype == "float32" else 2) * cache


class Floor:
    """Readers of a buffer of ``size`` bytes, which share it among ``threads``."""

    def __init__(self, size: int, threads: int) -> None:
        self.buffer = np.ones(size // 4, np.float32)  # new and large, so on large pages where the system has them
        self.pool = ThreadPoolExecutor(threads)
        self.parts = np.array_split(self.buffer, threads)
        whole = torch.from_numpy(self.buffer)
        self.readers: dict[str, Callable[[], Any]] = {"torch": whole.sum, "numpy": lambda: self._by_parts(np.sum)}
        if find_spec("numba") is not None:
            read = compiled_read()
            self.readers["compiled"] = lambda: self._by_parts(read)
        self.seconds: dict[str, list[float]] = {name: [] for name in self.readers}

    def measure(self, *, repeats: int) -> None:
        """Read the buffer ``repeats`` times by every program, by turns."""
        for number in range(repeats + 1):
            for name, read in self.readers.items():
                started = time.perf_counter()
                read()
                if number:  # the first fetches the buffer
                    self.seconds[name].append(time.perf_counter() - started)

    @property
    def pass_seconds(self) -> float:
        """Of the fastest program, the median."""
        return min(statistics.median(seconds) for seconds in self.seconds.values())

    def _by_parts(self, read: Callable[[Any], Any]) -> None:
        list(self.pool.map(read, self.parts))


def compiled_read() -> Callable[[Any], Any]:
    """A sum in numba, whose additions may be taken in any order."""
    from numba import njit

    @njit(fastmath=True, nogil=True)
    def read(values):  # type: ignore[no-untyped-def]
        total = np.float32(0.0)
        for index in range(len(values)):
            total += values[index]
        return total

    read(np.ones(8, np.float32))
    return read  # type: ignore[no-any-return]
