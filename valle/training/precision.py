"""The number format of a run's matrix products, and the gradient scaler that float16 needs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from valle.device import has_bfloat16_instructions
from valle.training.distributed import World
from valle.training.options import LoopOptions
from valle.training.sharding import whole
from valle.training.task import Batch, Task

SMALLEST_SCALE = 2.0**-16  # below which float16 gradients say nothing any more
WORTH = 1.1  # times faster that bfloat16 must be to be chosen
NEAR = 0.05  # how far off float32's loss the one of bfloat16 may lie, as a share of it; kernels that are wrong there exist
BUDGET = 1.5  # seconds to choose in, of which the last pass may need somewhat more


class Precision:
    """Autocast, loss scaling and the optimizer's step in one format."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16", init_scale=2.0**12)

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.name == "float32" else torch.autocast(self.device.type, dtype=self.dtype)

    def scale(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def step(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, clip: float, *, apart: Sequence[Sequence[nn.Parameter]] = ()
    ) -> float:
        """Unscale, clip to ``clip`` (0 for not), step -> the norm of all gradients before clipping.

        ``apart`` names the sets of parameters that are clipped each by its own norm, all of the model's if there are none.
        Without a scaler, which expects overflows and skips them, gradients that are not finite move nothing.
        """
        self.scaler.unscale_(optimizer)
        largest = clip if clip > 0 else float("inf")
        norms = []
        for parameters in apart or [list(model.parameters())]:
            learning = [parameter for parameter in parameters if parameter.grad is not None]
            if learning:
                norms.append(whole(torch.nn.utils.clip_grad_norm_(learning, largest)))
        norm = math.hypot(*torch.stack(norms).tolist()) if norms else 0.0  # at once: a process waits for its device here
        if self.scaler.is_enabled() or math.isfinite(norm):
            self.scaler.step(optimizer)
            self.scaler.update()
        return norm

    def is_broken(self, norm: float) -> bool:
        """Whether a step's gradients mean that training is over: not finite, or a scale that has fallen without end."""
        if self.scaler.is_enabled():
            return bool(self.scaler.get_scale() < SMALLEST_SCALE)
        return not math.isfinite(norm)

    def state(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load(self, state: dict[str, Any] | None) -> None:
        if state:
            self.scaler.load_state_dict(state)


def resolve_dtype(task: Task, options: LoopOptions, device: torch.device, world: World) -> str:
    """The format to train in; ``auto`` times the model on a few rows, on the first rank, compares losses, and leaves no trace in it.

    Where the processor has no instructions for bfloat16 nothing is tried, and where it has, trying takes about ``BUDGET`` seconds.
    """
    if options.dtype != "auto":
        return options.dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if device.type != "cpu" or not world.is_first:
        return "float32"
    if has_bfloat16_instructions() is False:
        logging.info("This processor has no instructions for bfloat16: training in float32")
        return "float32"
    batch = task.to_device(next(iter(task.validation_batches(World()))), device)
    return _Trial(task, batch).choose()


class _Trial:
    """A few rows of a batch, in both formats by turns, for as long as the budget lasts."""

    def __init__(self, task: Task, batch: Batch) -> None:
        self.task, self.batch, self.rows = task, batch, first_rows(batch, 1)
        self.began = time.perf_counter()
        self.exact, self.half = Precision("float32", torch.device("cpu")), Precision("bfloat16", torch.device("cpu"))

    def choose(self) -> str:
        cold, exact = self._pass(self.exact)
        if self._left() > 4 * cold:  # as many more rows as there is time for
            warm, _ = self._pass(self.exact)
            self.rows = first_rows(self.batch, max(1, int(BUDGET / 12 / max(warm, 1e-6))))
            cold, exact = self._pass(self.exact)
        seconds, loss = self._pass(self.half)
        if not math.isclose(loss, exact, rel_tol=NEAR):
            logging.warning("The same batch has a loss of %.4g in float32 and %.4g in bfloat16: training in float32", exact, loss)
            return "float32"
        times = [(cold, seconds)]
        while len(times) < 3 and self._left() > sum(times[-1]):
            times.append((self._pass(self.exact)[0], self._pass(self.half)[0]))
        if len(times) > 1:
            del times[0]  # the first passes prepare much
        exact_seconds, seconds = (min(column) for column in zip(*times, strict=True))
        chosen = "bfloat16" if seconds * WORTH < exact_seconds else "float32"
        logging.info("A pass takes %.3f s in float32 and %.3f s in bfloat16: training in %s", exact_seconds, seconds, chosen)
        return chosen

    def _left(self) -> float:
        return BUDGET - (time.perf_counter() - self.began)

    def _pass(self, precision: Precision) -> tuple[float, float]:
        """Seconds of a pass forward and backward, and the loss."""
        start = time.perf_counter()
        self.task.model.eval()  # no dropout, no running statistics
        with precision.autocast():
            parts = self.task.model(self.rows)
        loss = torch.stack([part.sum for part in parts.values()]).sum()
        loss.backward()
        seconds = time.perf_counter() - start
        self.task.model.zero_grad(set_to_none=True)
        return seconds, float(loss.detach())


def first_rows(batch: Batch, count: int) -> Batch:
    """``batch`` cut to its first ``count`` examples, in all its tensors of one row an example."""
    if isinstance(batch, Tensor):
        return batch[:count] if batch.ndim else batch
    return {name: first_rows(value, count) for name, value in batch.items()} if isinstance(batch, dict) else batch
