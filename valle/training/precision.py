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

from valle.training.distributed import World
from valle.training.options import LoopOptions
from valle.training.task import Batch, Task

SMALLEST_SCALE = 2.0**-16  # below which float16 gradients say nothing any more
WORTH = 1.1  # times faster that bfloat16 must be to be chosen
NEAR = 0.05  # how far off float32's loss the one of bfloat16 may lie, as a share of it; kernels that are wrong there exist
HOPELESS, PATIENCE = 4.0, 5.0  # a first pass in it of so many times float32's, and of so many seconds, is the last that is timed


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

        ``apart`` names sets of parameters that are clipped each by its own norm, instead of the whole model by one.
        Without a scaler, which expects overflows and skips them, gradients that are not finite move nothing.
        """
        self.scaler.unscale_(optimizer)
        largest = clip if clip > 0 else float("inf")
        norms = []
        for parameters in apart or [list(model.parameters())]:
            learning = [parameter for parameter in parameters if parameter.grad is not None]
            norms.append(float(torch.nn.utils.clip_grad_norm_(learning, largest)))
        norm = math.hypot(*norms)
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
    """The format to train in; ``auto`` times the model on a real batch, on the first rank, compares losses, and leaves no trace in it."""
    if options.dtype != "auto":
        return options.dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if device.type != "cpu" or not world.is_first:
        return "float32"
    batch = task.to_device(next(iter(task.batches(epoch=1, skip=0, world=World()))), device)
    exact_seconds, exact = _time(task, batch, Precision("float32", device))
    seconds, loss = _time(task, batch, Precision("bfloat16", device), hopeless=max(PATIENCE, HOPELESS * exact_seconds))
    if not math.isclose(loss, exact, rel_tol=NEAR):
        logging.warning("The same batch has a loss of %.4g in float32 and %.4g in bfloat16: training in float32", exact, loss)
        return "float32"
    chosen = "bfloat16" if seconds * WORTH < exact_seconds else "float32"
    logging.info("A pass takes %.2f s in float32 and %.2f s in bfloat16: training in %s", exact_seconds, seconds, chosen)
    return chosen


def _time(task: Task, batch: Batch, precision: Precision, *, hopeless: float = float("inf")) -> tuple[float, float]:
    """Seconds of the faster of two passes forward and backward after one to warm up, or of that one if it takes ``hopeless`` seconds;
    and the loss."""
    best = float("inf")
    task.model.eval()  # no dropout, no running statistics
    for attempt in range(3):
        start = time.perf_counter()
        with precision.autocast():
            parts = task.model(batch)
        loss = torch.stack([part.sum for part in parts.values()]).sum()
        loss.backward()
        seconds = time.perf_counter() - start
        task.model.zero_grad(set_to_none=True)
        if attempt or seconds > hopeless:
            best = min(best, seconds)
        if seconds > hopeless:
            break
    return best, float(loss.detach())
