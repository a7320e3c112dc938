"""Models that do not fit a GPU: weights, gradients and optimizer state in shards over all processes (FSDP2), by ``--fsdp true``.

Checkpoints hold whole tensors either way, so that a run goes on with and without shards.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from valle.errors import UserError
from valle.models import AudioLM
from valle.modules.conformer import ConformerBlock
from valle.modules.transformer import Block
from valle.training.distributed import World

METHODS = ("loss", "validation_terms")  # that the trainer calls beside a stage's forward


def shard(model: nn.Module, world: World, device: torch.device) -> None:
    """Leave each process a share of every tensor of an ``AudioLM``, in place; a block's tensors are together only while it computes."""
    assert isinstance(model, AudioLM)  # no other trainer has the flag
    if world.size == 1:
        raise UserError("expected several processes to share a model with --fsdp true, found one; give --world-size, or leave it out")
    mesh = init_device_mesh(device.type, (world.size,))
    for part in model.stages().values():
        for module in part.modules():
            if isinstance(module, Block | ConformerBlock):
                fully_shard(module, mesh=mesh)
        fully_shard(part, mesh=mesh, reshard_after_forward=False)  # small, and a loss goes on after the forward
        for name in METHODS:
            if hasattr(part, name):
                register_fsdp_forward_method(part, name)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "loss")


def local(tensor: Any) -> Tensor:
    """What this process holds of a tensor."""
    part: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part


def sum_over_shards(values: Tensor, like: Tensor) -> Tensor:
    """``values`` summed over the processes that share tensors such as ``like``, in place."""
    if isinstance(like, DTensor):
        dist.all_reduce(values, group=like.device_mesh.get_group())
    return values


def whole(value: Any) -> Any:
    """Shards put together within dicts and lists, on every process, which must all call this; everything else as it is."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """``load_state_dict`` of whole tensors, whether the model is in shards or not."""
    here = model.state_dict()
    model.load_state_dict({name: _as_shared(tensor, here.get(name)) for name, tensor in weights.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The same of an optimizer's state, whose tensors are as large as their parameters or single numbers."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shared = {
        place: {
            name: _as_shared(value, parameters[place]) if isinstance(value, Tensor) and value.shape == parameters[place].shape else value
            for name, value in values.items()
        }
        for place, values in state["state"].items()
        if place < len(parameters)
    }
    optimizer.load_state_dict({**state, "state": shared} if len(shared) == len(state["state"]) else state)


def _as_shared(tensor: Tensor, like: Tensor | None) -> Tensor:
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
