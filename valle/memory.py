"""Memory: what the allocator keeps although nobody uses it, and the most that was held."""

from __future__ import annotations

import ctypes
import mmap
import sys

M_ARENA_MAX = -8  # of glibc's malloc.h


def give_memory_back() -> None:
    """Return what was freed to the system: glibc keeps it, in pieces that batches of other sizes do not fit, and takes ever more.

    What was given back must be cleared anew by the system when it is asked for again, so not for nothing: see ``MemoryKeeper``.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none and need none
    if trim is not None:
        trim(0)


def share_one_arena() -> None:
    """Let threads that start from now on take memory from one place: glibc gives each its own, where others cannot use what it freed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


class MemoryKeeper:
    """Gives memory back once this process holds ``slack`` bytes more than it did at its least since the last time.

    In tokenising, after every batch took a fifth of the time; after every eighth, the peak still grew with the corpus.
    """

    def __init__(self, *, slack: int = 224 * 2**20) -> None:
        self._slack = slack
        self._least: float = float("inf")

    def check(self) -> bool:
        """Whether it was time to."""
        held = resident_bytes()
        self._least = min(self._least, held)
        if held and held <= self._least + self._slack:
            return False
        give_memory_back()
        self._least = resident_bytes()
        return True


def resident_bytes() -> int:
    """What this process holds in memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as numbers:
            return int(numbers.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def peak_memory_gib() -> float:
    """The most that this process has held at once, or any one of its children that have ended, GiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most / (2**30 if sys.platform == "darwin" else 2**20)
