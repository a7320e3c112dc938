"""How few bytes the numbers of a tokenizer or a model are stored in: half precision, or eight bits and a scale a row.

A tokenizer is rounded first and stored then, so its file holds the very numbers that it computes with, and its identity stays.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

STEPS = 127  # of an int8 to either side
SCALE = ":scale"  # after a tensor's name: that of its rows' scales
SMALLEST_MATRIX = 1024  # numbers; what is smaller stays in half precision


@torch.no_grad()
def rounded(module: Module, dtype: Literal["float16", "int8"] = "float16", *, exact: Collection[nn.Parameter] = ()) -> Module:
    """``module`` with every number the nearest that its file can hold: int8 for matrices that are learned, float16 for all else.

    Parameters among ``exact`` stay as they are, such as those of a file that was rounded before, in another format.
    """
    kept = {id(parameter) for parameter in exact}
    for parameter in module.parameters():
        if id(parameter) in kept:
            continue
        parameter.copy_(nearest(parameter) if dtype == "int8" else parameter.half().float())
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(buffer.half().float())
    return module


def nearest(tensor: Tensor) -> Tensor:
    """The nearest float32 numbers that a file in int8 can hold: eight bits and a scale a row for a matrix, float16 for all else."""
    is_matrix = tensor.dim() > 1 and tensor.numel() >= SMALLEST_MATRIX
    return _restored(*_steps(tensor.float())) if is_matrix else tensor.half().float()


def packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, each in the smallest format that loses nothing."""
    small: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if tensor.dtype != torch.float32:
            small[name] = tensor.clone()
            continue
        steps = _as_steps(tensor)
        half = tensor.half()
        if steps is not None:
            small[name], small[name + SCALE] = steps
        else:
            small[name] = half if torch.equal(half.float(), tensor) else tensor.clone()
    return small


def unpacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``packed``, but that float16 stays float16."""
    scales = {name.removesuffix(SCALE): scale for name, scale in tensors.items() if name.endswith(SCALE)}
    return {
        name: _restored(tensor, scales[name]) if name in scales else tensor for name, tensor in tensors.items() if not name.endswith(SCALE)
    }


def _as_steps(tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    """Steps and scales, where they are the very numbers."""
    if tensor.dim() < 2 or tensor.numel() < SMALLEST_MATRIX:
        return None
    steps, scale = _steps(tensor)
    return (steps, scale) if torch.equal(_restored(steps, scale), tensor) else None


def _steps(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows along the first dimension: int8 in the tensor's shape, and bfloat16 scales, whose few digits make products exact."""
    scale = (tensor.flatten(1).abs().amax(1) / STEPS).bfloat16()
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale)).float().view(-1, *[1] * (tensor.dim() - 1))
    return (tensor / divisor).round().clamp(-STEPS, STEPS).to(torch.int8), scale


def _restored(steps: Tensor, scale: Tensor) -> Tensor:
    return steps.float() * scale.float().view(-1, *[1] * (steps.dim() - 1))
