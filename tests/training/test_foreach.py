"""ScaledAdam moves all tensors of a kind at once: bit for bit what one after the other gave, and resumable from either."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from valle.training import optim
from valle.training.optim import ScaledAdam


class OneByOne(ScaledAdam):
    """The slow twin: a tensor after the other, with a kernel for every operation."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._one(parameter, parameter.grad, group)

    def _one(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["scale_mean"], state["scale_square"] = parameter.new_zeros(()), parameter.new_zeros(())
        state["step"] += 1
        correction = math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        rms = parameter.square().mean().sqrt().clamp(min=group["min_rms"])
        if parameter.numel() > 1:
            along = (parameter * grad).sum()
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


def tensors(dtype: torch.dtype) -> list[nn.Parameter]:
    """Large and small, of one number, at the bounds of their size."""
    torch.manual_seed(0)
    values = [torch.randn(33, 17), torch.randn(5), torch.randn(1), torch.zeros(40, 3), 3 * torch.randn(7, 7), torch.tensor(0.3)]
    return [nn.Parameter(value.to(dtype)) for value in values]


def move(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        optimizer.param_groups[0]["lr"] = 0.05 / (1 + step)
        for index, parameter in enumerate(parameters):
            grad = torch.randn(parameter.shape, dtype=torch.float64).to(parameter.dtype)
            parameter.grad = None if (index, step) in ((1, 0), (0, 2)) else grad  # some have no part in some steps
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [1, 600, 2**25])
def test_all_at_once_equals_one_by_one(dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "CHUNK", chunk)
    ours, theirs = tensors(dtype), tensors(dtype)
    quick, slow = ScaledAdam(ours), OneByOne(theirs)
    move(quick, ours, range(6))
    move(slow, theirs, range(6))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
        assert quick.state[one].keys() == slow.state[other].keys()
        for name, value in quick.state[one].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(slow.state[other][name])), name


def test_state_of_one_by_one_is_gone_on_with() -> None:
    ours, theirs = tensors(torch.float32), tensors(torch.float32)
    slow = OneByOne(theirs)
    move(slow, theirs, range(3))
    for one, other in zip(ours, theirs, strict=True):
        one.data.copy_(other.data)
    quick = ScaledAdam(ours)
    quick.load_state_dict(deepcopy(slow.state_dict()))
    move(quick, ours, range(3, 6))
    move(slow, theirs, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
