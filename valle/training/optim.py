"""Optimizers and learning rates: ScaledAdam with Eden (Zipformer, Yao et al. 2023, section 3.5), AdamW with a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from valle.training.options import LoopOptions

EDEN_STEPS, EDEN_EPOCHS = 7500.0, 3.5  # after which the rate begins to fall, as in the paper
COSINE_FLOOR = 0.02  # of the highest rate, at the end


class ScaledAdam(torch.optim.Optimizer):
    """Adam whose step is proportional to each tensor's size, and which also learns that size.

    With ``r`` the root mean square of a tensor, its direction moves by ``lr * r * m / sqrt(v)``; along the tensor
    itself an Adam of its own moves the size by ``lr * scale_speed`` (the paper's equations 4 to 6).  A single number has
    no direction: it is moved by an Adam at ``lr * scale_speed``, as in icefall.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.05,
        *,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        scale_speed: float = 0.1,
        min_rms: float = 1e-5,
        max_rms: float = 3.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "scale_speed": scale_speed, "min_rms": min_rms, "max_rms": max_rms}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["scale_mean"], state["scale_square"] = parameter.new_zeros(()), parameter.new_zeros(())
        state["step"] += 1
        correction = math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        rms = parameter.square().mean().sqrt().clamp(min=group["min_rms"])
        if parameter.numel() > 1:
            along = (parameter * grad).sum()  # gradient with respect to the logarithm of the tensor's size
            state["scale_mean"].lerp_(along, 1 - beta1)
            state["scale_square"].lerp_(along.square(), 1 - beta2)
            change = -group["scale_speed"] * group["lr"] * correction * state["scale_mean"] / (state["scale_square"].sqrt() + group["eps"])
            change = torch.where(rms * (1 + change) < group["min_rms"], change.clamp(min=0), change)
            change = torch.where(rms * (1 + change) > group["max_rms"], change.clamp(max=0), change)
            scaled = parameter * change
        else:
            rms, scaled = parameter.new_tensor(group["scale_speed"]), torch.zeros_like(parameter)
        state["mean"].lerp_(grad, 1 - beta1)
        state["square"].lerp_(grad.square(), 1 - beta2)
        direction = state["mean"] / (state["square"].sqrt() + group["eps"])
        parameter.add_(direction * (-group["lr"] * correction * rms)).add_(scaled)


def build_optimizer(model: nn.Module, options: LoopOptions, parts: Mapping[str, list[nn.Parameter]] | None = None) -> torch.optim.Optimizer:
    """The optimizer over whatever of ``model`` is to be trained; AdamW decays matrices only.

    Where the options separate parts, each of ``parts`` has groups of its own, marked by its name.
    """
    if options.separates_parts and parts is not None:
        groups = [{**group, "part": name} for name, parameters in parts.items() for group in _groups(parameters, options)]
    else:
        groups = _groups(list(model.parameters()), options)
    if options.optimizer_name == "ScaledAdam":
        return ScaledAdam(groups, lr=options.base_lr, betas=options.adam_betas)
    fused = all(parameter.device.type in ("cpu", "cuda") for group in groups for parameter in group["params"])
    return torch.optim.AdamW(groups, lr=options.base_lr, betas=options.adam_betas, fused=fused)


def _groups(parameters: list[nn.Parameter], options: LoopOptions) -> list[dict[str, Any]]:
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if options.optimizer_name == "ScaledAdam":
        return [{"params": parameters}]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate(options: LoopOptions, *, step: int, epoch: int, share_done: float) -> float:
    """The rate of step number ``step`` (from 1) in epoch number ``epoch`` (from 1); ``share_done`` 0..1 of a run of known length.

    A cosine rises and falls by one clock, the share of the run, whether steps or minutes bound it; Eden by steps and epochs.
    """
    if options.scheduler_name == "cosine":
        done, warmup = min(1.0, max(0.0, share_done)), options.warmup
        if done < warmup:
            return options.base_lr * done / warmup
        fall = 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
        return options.base_lr * (COSINE_FLOOR + (1 - COSINE_FLOOR) * fall)
    warmup = min(1.0, step / options.warmup_steps) if options.warmup_steps else 1.0
    by_step = ((step**2 + EDEN_STEPS**2) / EDEN_STEPS**2) ** -0.25
    by_epoch = (((epoch - 1) ** 2 + EDEN_EPOCHS**2) / EDEN_EPOCHS**2) ** -0.25
    return options.base_lr * by_step * by_epoch * (0.5 + 0.5 * warmup)
