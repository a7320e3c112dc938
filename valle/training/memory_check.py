"""Whether the largest batches fit the device beside weights, gradients and the optimizer's state, before anything is trained."""

from __future__ import annotations

import logging
from itertools import islice

import torch

from valle.training.distributed import World
from valle.training.errors import MemoryShortError
from valle.training.precision import Precision
from valle.training.task import Batch, Task

SEARCHED = 20  # of an epoch's first batches


def try_largest(task: Task, optimizer: torch.optim.Optimizer, precision: Precision, device: torch.device, world: World) -> int:
    """One pass over each of the largest batches -> how many were tried; raises ``MemoryShortError``.

    The optimizer's state is made before, and dropped after where it is new, so that training starts from nothing.  Weights and
    buffers are put back as they were.
    """
    batches = [*task.longest_batches(), _largest_of_first(task, world)]
    model, is_new = task.model, not optimizer.state
    before = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    try:
        if is_new:
            _make_state(optimizer)
        model.train()
        for batch in batches:
            with precision.autocast():
                parts = model(task.to_device(batch, device))
            torch.stack([part.sum for part in parts.values()]).sum().backward()
    except torch.OutOfMemoryError as error:
        raise MemoryShortError(step=0, device=str(device)) from error
    finally:
        optimizer.zero_grad(set_to_none=True)
        if is_new:
            optimizer.state.clear()
        model.load_state_dict(before)
    logging.info("The %d largest batches fit, beside what the optimizer keeps", len(batches))
    return len(batches)


def _make_state(optimizer: torch.optim.Optimizer) -> None:
    """A step at a rate of nothing."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _largest_of_first(task: Task, world: World) -> Batch:
    """Of a sampler of its own, so that training's does not move."""
    return max(islice(task.batches(epoch=1, skip=0, world=world), SEARCHED), key=lambda batch: task.describe(batch)["frames"])
