"""What takes a request's cached steps: torch, the native step where it is there, fits, and saves time, or one captured graph."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol, get_args

import torch
from torch import Tensor

from valle.device import has_bfloat16_instructions
from valle.errors import UserError
from valle.modules.gated_transformer import GatedTransformer
from valle.modules.transformer import Engine, LayerCache, Step, Transformer
from valle.timeline import ceil_division

CACHE_BLOCK = 64  # capacities are multiples of it
# What a start of the native step takes, over what it saves in one layer of one step: 0.9 s to load, 9 s to compile, 0.4 ms saved at 256x4;
# and a third more, as both depend on the machine.
LOADING, COMPILING = 3_000, 30_000
MANY_ROWS, WIDE = 32, 512  # from which on torch's step in bfloat16 was 1.15 times as fast; with 16 rows of 512 it was .96


class StepEngine(Protocol):
    """The steps of one batch of rows, with the cache that they look back to."""

    capacity: int  # positions that the cache has room for

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` positions a row; what is cached stays."""
        ...

    def write(self, rows: Sequence[int], windows: Sequence[LayerCache]) -> None:
        """Put the keys and values of ``windows``, a cache a layer of all of ``rows``, at the beginning of these rows."""
        ...

    def step(self, inputs: Tensor, filled: Sequence[int], slots: Tensor) -> Tensor:
        """New positions ``(B, n, D)`` behind the ``filled`` of each row -> hidden ``(B, n, D)``; ``slots (B,)``: the same on the device."""
        ...


def choose_steps(transformer: Transformer, batch: int, num_steps: int) -> StepEngine:
    """What ``transformer.stepping`` asks for; with ``auto``, the native step where it can run, is the faster one, and ``num_steps``
    earn its start.

    ``transformer.stepping.ran`` says what was chosen, and why if it was torch.  Raises ``UserError`` as ``verify_steps`` does.
    """
    verify_steps(transformer)
    stepping = transformer.stepping
    if stepping.engine == "captured":
        from valle.decoding.captured import CapturedSteps

        stepping.ran = f"captured (compiled, {transformer.device.type})"
        return CapturedSteps(transformer, batch)
    against = "as asked for" if stepping.engine == "torch" else reason_against(transformer)
    if against is None and stepping.engine == "auto" and stepping.weights == "own":
        against = _slower(transformer, batch) or _not_worth_it(transformer, num_steps)
    if against is not None:
        stepping.ran = f"torch ({against})"
        return TorchSteps(transformer, batch)
    from valle.decoding.native import NativeSteps

    steps = NativeSteps(transformer, batch)
    stepping.ran = str(steps)
    return steps


def verify_steps(transformer: Transformer) -> None:
    """Raises ``UserError`` where ``transformer.stepping`` asks for what cannot be."""
    stepping = transformer.stepping
    if stepping.engine not in get_args(Engine):
        raise UserError(f"the engine must be {', '.join(get_args(Engine))}, found {stepping.engine!r}")
    if stepping.engine in ("torch", "captured") and stepping.weights == "int8":
        raise UserError(
            f"int8 weights are read by the native step alone, and the engine {stepping.engine} was asked for; "
            "use --engine auto or another --dtype"
        )
    if stepping.engine == "native" or stepping.weights == "int8":
        against = reason_against(transformer)
        if against is not None:
            asked = "--engine native" if stepping.engine == "native" else "--dtype int8"
            raise UserError(f"{asked} was asked for, but {against}; use --engine auto with --dtype float32")


def reason_against(transformer: Transformer) -> str | None:
    """Why the native step cannot run here; None if it can."""
    weight = transformer.blocks[0].qkv.weight
    if os.name != "posix":
        return "this system is not Linux or macOS"
    if find_spec("numba") is None:
        return "numba is not installed (pip install 'valle[native]')"
    if weight.device.type != "cpu":
        return f"the model is on {weight.device.type}, not on the CPU"
    if weight.dtype not in (torch.float32, torch.bfloat16):
        return f"the model's weights are {str(weight.dtype).removeprefix('torch.')}, not float32 or bfloat16"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if isinstance(transformer, GatedTransformer):
        return "its blocks are those of released text models"
    if transformer.config.num_levels:
        return "its norms depend on a level"
    return None


def _slower(transformer: Transformer, batch: int) -> str | None:
    """Why torch is the faster one: its products of many rows use instructions for bfloat16 that the native step does not have."""
    width, is_half = transformer.config.d_model, transformer.blocks[0].qkv.weight.dtype == torch.bfloat16
    if is_half and batch >= MANY_ROWS and width >= WIDE and has_bfloat16_instructions():
        return f"faster than the native step in bfloat16 with {batch} rows of {width}"
    return None


def _not_worth_it(transformer: Transformer, num_steps: int) -> str | None:
    """Why loading, or compiling, would take longer than it saves: in this request, or since the process began if it had been done then."""
    from valle.decoding import native_cache

    kind = native_cache.kind_of(transformer)
    if native_cache.is_loaded(kind):
        return None
    transformer.stepping.waited += transformer.config.num_layers * num_steps
    if transformer.stepping.waited < LOADING:
        return "too short to load the native step for"
    if transformer.stepping.waited < COMPILING and not native_cache.is_compiled(kind):
        return "the native step is not compiled yet; --engine native does it, once"
    return None


class TorchSteps:
    """The steps of ``Transformer.step``: the reference, for every device and format."""

    def __init__(self, transformer: Transformer, batch: int, *, prepared: bool = True) -> None:
        """``prepared``: its products are made ready for many steps, with a copy of the weights."""
        self.transformer, self.batch, self.device = transformer, batch, transformer.device
        self.layers = transformer.ready_for_steps(batch) if prepared else None
        self.caches = transformer.new_caches(batch, 0)
        self.capacity = 0
        self.rows = torch.arange(batch, device=self.device)

    def reserve(self, capacity: int) -> None:
        if capacity <= self.capacity:
            return
        capacity = ceil_division(capacity, CACHE_BLOCK) * CACHE_BLOCK
        grown = self.transformer.new_caches(self.batch, capacity)
        for old, new in zip(self.caches, grown, strict=True):
            new.keys[:, :, : self.capacity] = old.keys
            new.values[:, :, : self.capacity] = old.values
        self.caches, self.capacity = grown, capacity
        self.cos, self.sin = self.transformer.rotary(torch.arange(capacity, device=self.device), grown[0].keys.dtype)

    def write(self, rows: Sequence[int], windows: Sequence[LayerCache]) -> None:
        index = torch.tensor(list(rows), device=self.device)
        for ours, window in zip(self.caches, windows, strict=True):
            ours.keys[index, :, : window.keys.shape[2]] = window.keys
            ours.values[index, :, : window.keys.shape[2]] = window.values

    def step(self, inputs: Tensor, filled: Sequence[int], slots: Tensor) -> Tensor:
        number = inputs.shape[1]
        extent = max(filled) + number
        if number == 1 and min(filled) + 1 == extent:
            step = Step(cos=self.cos[extent - 1], sin=self.sin[extent - 1], extent=extent, slot=extent - 1)
        else:
            places = slots[:, None] + torch.arange(number, device=self.device)  # (B, n)
            unseen = torch.arange(extent, device=self.device) > places[..., None]  # (B, n, extent)
            bias = torch.zeros(unseen.shape, device=self.device, dtype=inputs.dtype).masked_fill(unseen, -torch.inf)[:, None]
            cos, sin = (table[places][:, None] for table in (self.cos, self.sin))
            step = Step(cos=cos, sin=sin, extent=extent, slot=None, rows=self.rows[:, None], slots=places, bias=bias)
        return self.transformer.step(inputs, step, self.caches, self.layers)
