"""Processes that read batches: what they hand over needs no shared memory, and one that dies is a sentence."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from valle.errors import UserError

PREFETCHED = 4  # batches that each process keeps ready


class ReaderDiedError(UserError):
    """A process that reads batches is gone, or could not be started."""


def read_batches(dataset: Dataset[Any], order: Any, *, num_workers: int, at_start: Callable[[int], None] | None = None) -> Iterator[Any]:
    """``dataset[item]`` for each ``item`` of ``order``, read by ``num_workers`` processes (0: by this one), each of which calls
    ``at_start(its number)`` first.

    Torch would hand tensors over in ``/dev/shm``, which containers and clusters make as small as 64 MB; arrays go through a pipe.
    """
    if num_workers == 0:
        yield from DataLoader(dataset, sampler=order, batch_size=None, num_workers=0, collate_fn=_as_it_is)
        return
    loader = DataLoader(
        dataset, sampler=order, batch_size=None, num_workers=num_workers, collate_fn=_to_arrays, prefetch_factor=PREFETCHED,
        worker_init_fn=at_start,
    )  # fmt: skip
    with explaining_dead_readers():
        try:
            batches = iter(loader)
        except OSError as error:  # semaphores need a little of /dev/shm
            raise ReaderDiedError(
                f"cannot start {num_workers} processes that read batches ({error.strerror}; is /dev/shm full or missing?); "
                "free some of it, or give --num-workers 0"
            ) from error
        for batch in batches:
            yield _map(batch, np.ndarray, _to_tensor)


@contextmanager
def explaining_dead_readers() -> Iterator[None]:
    """Around all that happens while such processes live: torch raises their death wherever this process is just then."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "DataLoader worker" not in text:
            raise
        raise ReaderDiedError(
            f"a process that reads batches died ({text.partition('. ')[0]}); it may have had too little memory, or too small a /dev/shm: "
            "free some, or give --num-workers 0; the same command goes on"
        ) from error


def _as_it_is(batch: Any) -> Any:
    return batch


def _to_arrays(batch: Any) -> Any:
    return _map(batch, Tensor, lambda tensor: tensor.numpy())


def _to_tensor(array: NDArray[Any]) -> Tensor:
    """In memory from where it goes to a GPU while that computes, if there is one."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


def _map(batch: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """``batch`` with ``change`` made to all of ``kind`` in its nested dictionaries, which keep their own attributes."""
    if isinstance(batch, kind):
        return change(batch)
    if isinstance(batch, dict):
        changed = copy.copy(batch)
        changed.update({name: _map(value, kind, change) for name, value in batch.items()})
        return changed
    return batch
