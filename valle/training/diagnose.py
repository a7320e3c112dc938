"""Where a step that broke went wrong: the first module whose output, or its gradient, is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def first_not_finite(model: nn.Module, run: Callable[[], None]) -> str | None:
    """Watch ``model`` while ``run`` repeats the step -> the module's name, in the order of computing; None if all is finite.

    A gradient is named after the module whose output it is of, or whose parameter.
    """
    found: list[str] = []

    def watch(name: str) -> Any:
        def look(values: Tensor) -> None:
            if not bool(torch.isfinite(values).all()):
                found.append(name)

        def follow(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                look(output.detach())
                if output.requires_grad:
                    output.register_hook(look)

        return follow

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    model.zero_grad(set_to_none=True)
    run()
    for handle in handles:
        handle.remove()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            found.append(name.rpartition(".")[0] or name)
    return found[0] if found else None
