"""Whether the native step is compiled already, and compiling it ahead of time.

numba keeps what it compiled and does not say whether it is there, so a file beside it does, named by all that a compiled
kernel depends on.  Importing this imports no numba.
"""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from valle.modules.transformer import Transformer

KERNELS = "valle.decoding.native_kernels"
KINDS = ("float32", "bfloat16", "int8")  # of weights; each has kernels of its own


def kind_of(transformer: Transformer) -> str:
    """The kind of weights that a native step of ``transformer`` reads."""
    if transformer.stepping.weights == "int8":
        return "int8"
    return "bfloat16" if transformer.blocks[0].qkv.weight.dtype == torch.bfloat16 else "float32"


def is_loaded(kind: str) -> bool:
    """This process has the kernel at hand."""
    kernels = sys.modules.get(KERNELS)
    return kernels is not None and kind in kernels.LOADED


def is_compiled(kind: str) -> bool:
    """An earlier process left the kernel on disk."""
    mark = _mark(kind)
    return mark is not None and mark.exists()


def note_compiled(kind: str) -> None:
    """Remember that the kernel is on disk."""
    mark = _mark(kind)
    if mark is not None:
        mark.touch()


def _mark(kind: str) -> Path | None:
    from llvmlite import binding

    from valle.decoding import native_kernels

    folder = native_kernels.step.stats.cache_path
    if folder is None:
        return None
    source = Path(native_kernels.__file__).stat()  # its age and size, by which numba knows it, beside its content
    machine = f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"
    depends_on = f"{source.st_mtime_ns} {native_kernels.SOURCES} {version('numba')} {sys.version} {machine}"
    return Path(folder) / f"valle-step-{kind}-{hashlib.sha256(depends_on.encode()).hexdigest()[:16]}.compiled"
