"""Optimizers and learning rates: ScaledAdam with Eden (Zipformer, Yao et al. 2023, section 3.5), AdamW or Muon with a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from valle.training.muon import MuonWithAdamW, hidden_matrices
from valle.training.options import LoopOptions
from valle.training.sharding import local, sum_over_shards

EDEN_STEPS, EDEN_EPOCHS = 7500.0, 3.5  # after which the rate begins to fall, as in the paper
CHUNK = 2**25  # numbers that ScaledAdam updates at once: more is no faster and takes memory
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
            for parameters in _chunks([parameter for parameter in group["params"] if parameter.grad is not None], self._steps_done):
                self._update(parameters, group)
        return loss

    def _steps_done(self, parameter: Tensor) -> int:
        return int(self.state[parameter].get("step", 0))

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Tensors of one kind at once, by a few kernels for all of them, and without waiting for the device."""
        (beta1, beta2), eps, states = group["betas"], group["eps"], [self._state(parameter) for parameter in parameters]
        weights, grads = [local(parameter) for parameter in parameters], [local(parameter.grad) for parameter in parameters]
        correction = math.sqrt(1 - beta2 ** states[0]["step"]) / (1 - beta1 ** states[0]["step"])
        if parameters[0].numel() > 1:
            sizes = torch.tensor([parameter.numel() for parameter in parameters], dtype=weights[0].dtype).to(weights[0].device)
            # Of every tensor: the sum of squares, and the gradient with respect to the logarithm of its size.
            sums = [weight.square().sum() for weight in weights] + [_dot(weight, grad) for weight, grad in pairs(weights, grads)]
            squares, along = sum_over_shards(torch.stack(sums), parameters[0]).view(2, -1)
            rms = (squares / sizes).sqrt().clamp(min=group["min_rms"])  # (N,), one for every tensor
            change = self._change(states, along, rms, correction, group)
            scaled = [weight * factor for weight, factor in pairs(weights, change.unbind())]
        else:
            rms, scaled = weights[0].new_full((len(weights),), group["scale_speed"]), []
        means, squares_of = [local(state["mean"]) for state in states], [local(state["square"]) for state in states]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_lerp_(squares_of, torch._foreach_mul(grads, grads), 1 - beta2)
        roots = torch._foreach_sqrt(squares_of)
        torch._foreach_add_(roots, eps)
        directions = torch._foreach_div(means, roots)
        torch._foreach_mul_(directions, list((-group["lr"] * correction * rms).unbind()))
        torch._foreach_add_(weights, directions)
        if scaled:
            torch._foreach_add_(weights, scaled)

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["scale_mean"], state["scale_square"] = (torch.zeros((), dtype=parameter.dtype, device=parameter.device) for _ in range(2))
        state["step"] += 1
        return state

    def _change(self, states: list[dict[str, Any]], along: Tensor, rms: Tensor, correction: float, group: dict[str, Any]) -> Tensor:
        """By how much of itself each tensor grows ``(N,)``; none beyond ``min_rms`` or ``max_rms``."""
        beta1, beta2 = group["betas"]
        mean, square = (torch.stack([state[name] for state in states]) for name in ("scale_mean", "scale_square"))
        mean.lerp_(along, 1 - beta1)
        square.lerp_(along.square(), 1 - beta2)
        for name, values in (("scale_mean", mean), ("scale_square", square)):
            torch._foreach_copy_([state[name] for state in states], list(values.unbind()))
        change = -group["scale_speed"] * group["lr"] * correction * mean / (square.sqrt() + group["eps"])
        change = torch.where(rms * (1 + change) < group["min_rms"], change.clamp(min=0), change)
        return torch.where(rms * (1 + change) > group["max_rms"], change.clamp(max=0), change)


def _chunks(parameters: list[Tensor], steps_done: Callable[[Tensor], int]) -> Iterator[list[Tensor]]:
    """Parameters that are updated at once: of one type, device and age, and not more than ``CHUNK`` numbers."""
    kinds: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        kinds.setdefault((parameter.dtype, parameter.device, parameter.numel() > 1, steps_done(parameter)), []).append(parameter)
    for kind in kinds.values():
        chunk: list[Tensor] = []
        for parameter in kind:
            if chunk and sum(other.numel() for other in chunk) + parameter.numel() > CHUNK:
                yield chunk
                chunk = []
            chunk.append(parameter)
        yield chunk


def _dot(weight: Tensor, grad: Tensor) -> Tensor:
    return (weight * grad).sum()


pairs = partial(zip, strict=True)


def build_optimizer(model: nn.Module, options: LoopOptions, parts: Mapping[str, list[nn.Parameter]] | None = None) -> torch.optim.Optimizer:
    """The optimizer over whatever of ``model`` is to be trained; AdamW and Muon decay matrices only.

    Where the options separate parts, each of ``parts`` has groups of its own, marked by its name.
    """
    matrices: Set[Tensor] = hidden_matrices(model) if options.optimizer_name == "Muon" else set()
    if options.separates_parts and parts is not None:
        groups = [{**group, "part": name} for name, parameters in parts.items() for group in _groups(parameters, options, matrices)]
    else:
        groups = _groups(list(model.parameters()), options, matrices)
    if options.optimizer_name == "ScaledAdam":
        return ScaledAdam(groups, lr=options.base_lr, betas=options.adam_betas)
    fused = all(parameter.device.type in ("cpu", "cuda") for group in groups for parameter in group["params"])
    if options.optimizer_name == "Muon":
        return MuonWithAdamW(groups, lr=options.base_lr, betas=options.adam_betas, fused=fused)
    return torch.optim.AdamW(groups, lr=options.base_lr, betas=options.adam_betas, fused=fused)


def _groups(parameters: list[nn.Parameter], options: LoopOptions, matrices: Set[Tensor]) -> list[dict[str, Any]]:
    """``matrices`` are those that Muon moves, if it is the optimizer."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if options.optimizer_name == "ScaledAdam":
        return [{"params": parameters}]
    decayed = [parameter for parameter in parameters if parameter.ndim > 1 and parameter not in matrices]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer_name != "Muon":
        return groups
    hidden = {"params": [parameter for parameter in parameters if parameter in matrices], "weight_decay": options.weight_decay}
    return [{**group, "muon": group is hidden} for group in (hidden, *groups) if group["params"]]


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
