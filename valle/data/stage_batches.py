"""Steps of several sizes from one sampler: a stage that wants larger batches collects those of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import lcm

import torch
from torch import Tensor
from torch.nn import functional as F

from valle.data.dataset import Batch


def collected(read: Callable[[int], Iterator[Batch]], every: Mapping[str, int], *, skip: int) -> Iterator[Batch]:
    """The batches of ``read(skip)``, in which each stage of ``every`` stands once in so many batches, with the tensors of all of them.

    ``skip`` counts what is yielded here; where it ends between two steps of a stage, what that stage had collected is read again.
    The last batches of an epoch make a smaller step.
    """
    period = lcm(*every.values())
    due = [number for number in range(period) if _due(number, every)]
    periods, before = divmod(skip, len(due))
    held: dict[str, list[Batch]] = {stage: [] for stage in every}
    for number, batch in enumerate(read(periods * period)):
        for stage in batch:
            held[stage].append(batch)
        if stages := _due(number, every):
            whole = _taken(held, stages)
            if before:
                before -= 1
            else:
                yield whole
    rest = [stage for stage, batches in held.items() if batches]
    if rest and not before:
        yield _taken(held, rest)


def joined(batches: Sequence[Batch], stage: str) -> dict[str, Tensor]:
    """A stage's tensors of several batches as of one, padded with zeros to a common length."""
    tensors = [batch[stage] for batch in batches]
    return {name: _cat([one[name] for one in tensors]) for name in tensors[0]}


def _due(number: int, every: Mapping[str, int]) -> list[str]:
    return [stage for stage, batches in every.items() if (number + 1) % batches == 0]


def _taken(held: dict[str, list[Batch]], stages: Sequence[str]) -> Batch:
    whole = Batch({stage: joined(held[stage], stage) for stage in stages})
    whole.cut_ids = tuple(dict.fromkeys(cut for stage in stages for batch in held[stage] for cut in batch.cut_ids))
    for stage in stages:
        held[stage] = []
    return whole


def _cat(parts: Sequence[Tensor]) -> Tensor:
    if parts[0].ndim < 2:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (*[0, 0] * (part.ndim - 2), 0, longest - part.shape[1])) for part in parts])
