"""Memory: what the allocator keeps although nobody uses it, and the most that was held."""

from __future__ import annotations

import ctypes
import sys


def give_memory_back() -> None:
    """Return what was freed to the system: glibc keeps it, in pieces that batches of other sizes do not fit, and takes ever more.

    In tokenising after every batch, for a fifth of its time; after every eighth, the peak still grows with the corpus.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none and need none
    if trim is not None:
        trim(0)


def peak_memory_gib() -> float:
    """The most that this process has held at once, or any one of its children that have ended, GiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most / (2**30 if sys.platform == "darwin" else 2**20)
