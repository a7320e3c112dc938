"""How often a step of training waits for its device: every number that Python reads is one time."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tiny_training import tiny_loop, tiny_options
from torch import Tensor
from torch.overrides import TorchFunctionMode

from valle.training.distributed import World

READS = (Tensor.tolist, Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.__bool__, Tensor.__index__, Tensor.cpu, Tensor.numpy)


class Waits(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS:
            self.counts[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_a_step_of_any_number_of_batches_waits_twice(manifests: Path, tmp_path: Path) -> None:
    """For the losses and for the norms of the gradients, both of which are checked before anything moves."""
    loop = tiny_loop(tiny_options(manifests, tmp_path, average_period=100))
    batches = loop.task.batches(epoch=1, skip=0, world=World())
    for count in (1, 3):
        some = [next(batches) for _ in range(count)]
        loop.task.seen_seconds = lambda batch: {}  # type: ignore[method-assign]  # looks at batches before they go to a device
        loop.progress.step += 1
        with Waits() as waits:
            loop.train_step(some)
        assert waits.counts == {"tolist": 2}, waits.counts
    assert torch.isfinite(torch.tensor(loop.progress.grad_norm))
