"""Centroids from a file: ``.npy``, ``.safetensors``, or scikit-learn's k-means as joblib pickled it, of which the arrays alone are read.

A pickle is a program.  The one of a k-means model names classes and functions to call; here none is ever imported or called but
inert stand-ins of this module, and what it asks for beyond those is refused.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from valle.errors import UserError

Centroids = NDArray[np.float32]  # (K, D)

NAME = "cluster_centers_"  # scikit-learn's
PLAIN_DTYPE = re.compile(r"[<>|=]?[fiub][1248]")
MOST_BYTES = 2**30


class CentroidFileError(UserError):
    """A file out of which no centroids can be read."""


def read_centroids(path: Path) -> Centroids:
    """``(K, D)`` float32; raises ``CentroidFileError`` for anything that is not such a matrix."""
    if not path.is_file():
        raise CentroidFileError(f"expected centroids at {path}, found nothing there; check the name")
    try:
        if path.suffix == ".npy":
            found: Any = np.load(path, allow_pickle=False)
        elif path.suffix == ".safetensors":
            tensors = load_file(path)
            found = tensors[NAME] if NAME in tensors else next(iter(tensors.values())) if len(tensors) == 1 else None
        else:
            found = _pickled_centroids(path)
    except (
        OSError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        raise CentroidFileError(
            f"expected centroids in {path}, found what cannot be read as such ({' '.join(str(error).split())[:100]}); "
            "get it again, or save the array of centroids as .npy"
        ) from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f" or not np.isfinite(found).all():
        shape = getattr(found, "shape", "none")
        raise CentroidFileError(f"expected a matrix of centroids in {path}, a row each, found {shape}; save it as .npy")
    return found.astype(np.float32)


def _pickled_centroids(path: Path) -> Any:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    with path.open("rb") as stream:
        model = _ArrayReader(io.BytesIO(stream.read())).load()
    return model.state.get(NAME) if isinstance(model, _Inert) and isinstance(model.state, dict) else None


class _Inert:
    """Stands for any class or function that a pickle names: it keeps what it is given, and does nothing."""

    def __init__(self, *given: Any) -> None:
        self.given = given
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Wrapper(_Inert):
    """joblib's mark in the stream: the bytes of an array follow."""

    def read(self, stream: Any) -> NDArray[Any]:
        about = self.state
        kind = about["dtype"].given[0]
        if not isinstance(kind, str) or not PLAIN_DTYPE.fullmatch(kind):
            raise ValueError(f"an array of {kind!r}")
        dtype = np.dtype(kind)
        order = about["dtype"].state
        if isinstance(order, tuple) and order[1] == ">":
            dtype = dtype.newbyteorder(">")
        if about.get("numpy_array_alignment_bytes") is not None:  # of newer versions: how much padding, and the padding
            stream.read(stream.read(1)[0])
        shape = tuple(int(size) for size in about["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        values = np.frombuffer(stream.read(count * dtype.itemsize), dtype, count)
        return values.reshape(shape, order="F" if about["order"] == "F" else "C")


class _ArrayReader(pickle._Unpickler):
    """Python's own reader of pickles, its lookup of names replaced, and the wrapped arrays read as they come."""

    stack: list[Any]  # of the base class, as `dispatch` is
    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._stream = stream

    def find_class(self, module: str, name: str) -> Any:
        return _Wrapper if name == "NumpyArrayWrapper" else _Inert

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("names something outside the file")

    def load_build(self) -> None:
        super().load_build()  # type: ignore[misc]
        if isinstance(self.stack[-1], _Wrapper):
            self.stack.append(self.stack.pop().read(self._stream))

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]
