"""The one transformer of the language models: causal, bidirectional, conditioned on a level, cached.

Decoder-only blocks (Vaswani et al. 2017) with pre-norm, rotary positions (Su et al. 2021) and torch's scaled
dot-product attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.attention import attention
from valle.modules.masks import valid_mask

Engine = Literal["auto", "torch", "native", "captured"]


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a stack; ``num_levels`` > 0 gives every norm a scale and shift of its own for each level."""

    d_model: int
    nhead: int
    num_layers: int
    dim_feedforward: int
    dropout: float = 0.0
    norm_first: bool = True
    num_levels: int = 0

    def __post_init__(self) -> None:
        for name in ("d_model", "nhead", "num_layers", "dim_feedforward"):
            if getattr(self, name) < 1:
                raise UserError(f"a transformer's {name} must be 1 or more, found {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be 0 or more and below 1, found {self.dropout}")
        if self.d_model % (2 * self.nhead):
            fitting = [heads for heads in range(1, self.d_model // 2 + 1) if self.d_model % (2 * heads) == 0]
            advice = f"try {min(fitting, key=lambda heads: abs(heads - self.nhead))} heads" if fitting else "choose an even width"
            raise UserError(
                "the model's width must be an even multiple of its heads (rotary positions pair dimensions), "
                f"found width {self.d_model} and {self.nhead} heads; {advice}"
            )


@dataclass(frozen=True)
class Attend:
    """Who sees whom: causal, or all positions that ``mask`` (broadcast to ``(B, 1, S, S)`` bool) allows."""

    causal: bool
    mask: Tensor | None = None

    @classmethod
    def causally(cls) -> Attend:
        """Right padding needs no mask: no valid position looks to its right."""
        return cls(causal=True)

    @classmethod
    def freely(cls, lengths: Tensor, max_length: int) -> Attend:
        """Every position sees every valid one of its row."""
        return cls(causal=False, mask=valid_mask(lengths, max_length)[:, None, None])

    @classmethod
    def after_prompt(cls, prompt_lengths: Tensor, max_length: int) -> Attend:
        """Positions before ``prompt_lengths`` see each other freely; later ones see all before them."""
        position = torch.arange(max_length, device=prompt_lengths.device)
        return cls(causal=False, mask=(position <= position[:, None]) | (position < prompt_lengths[:, None, None])[:, None])


class LayerCache:
    """Keys and values of one layer, ``(B, H, capacity, D / H)``, written in place."""

    def __init__(self, batch: int, heads: int, capacity: int, head_dim: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self.keys = torch.zeros(batch, heads, capacity, head_dim, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)

    def up_to(self, length: int) -> LayerCache:
        """The first ``length`` positions of this cache, in the same memory."""
        part = copy(self)
        part.keys, part.values = self.keys[:, :, :length], self.values[:, :, :length]
        return part


@dataclass
class Step:
    """Where the new positions of every row go, and what they see; shared by all layers of a step."""

    cos: Tensor  # (B or 1, 1, S, D / H)
    sin: Tensor
    extent: int  # cached positions that any row may see, the new ones included
    slot: int | None  # the common place of the new position, if there is one and the rows stand level
    rows: Tensor | None = None  # (B, 1) row numbers and
    slots: Tensor | None = None  # (B, S) places, otherwise
    bias: Tensor | None = None  # (B, 1, S, extent), 0 or -inf


class StepLinear:
    """A linear layer where a step's few rows meet a large matrix.

    In float32 on a CPU its weights are laid out once for all steps, as oneDNN reads them; torch's own product lays them out at
    every call, which takes longer than the product itself: eight rows are twice as fast this way.
    """

    def __init__(self, layer: nn.Linear, batch: int) -> None:
        self.layer = layer
        can_pack = layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        # Not public in torch, but what its compiler generates for frozen weights; where it is not to be had, all goes on without.
        can_pack = can_pack and hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), batch) if can_pack else None

    def __call__(self, x: Tensor) -> Tensor:
        """``x (batch, S, D)`` -> ``(batch, S, D_out)``, the layer's own output but for rounding."""
        if self.packed is None or torch.is_autocast_enabled("cpu"):
            return self.layer(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.layer.bias, "none", [], "")


@dataclass(frozen=True)
class StepLayers:
    """The products of one block, under the block's own names, made ready for many steps of ``batch`` rows."""

    qkv: StepLinear
    out: StepLinear
    expand: StepLinear
    project: StepLinear


@dataclass
class Stepping:
    """How the cached steps of a transformer are to be computed, and what was made of that: see ``valle.decoding.steps``."""

    engine: Engine = "auto"
    weights: Literal["own", "int8"] = "own"  # int8: rounded to 255 values a row, for steps alone
    packed: Any = None  # the weights as the native step reads them, kept for the next request
    ran: str | None = None  # what took the last request's steps, in words
    waited: int = 0  # steps, times layers, that torch took because the native step was not at hand


class LevelNorm(nn.Module):
    """Layer norm whose scale and shift depend on the level that is predicted (VALL-E, 4.2.2)."""

    def __init__(self, dim: int, num_levels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.modulation = nn.Embedding(num_levels, 2 * dim) if num_levels else None
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)

    def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.modulation is None:
            return x
        scale, shift = self.modulation(levels)[:, None].chunk(2, -1)
        return x * (1 + scale) + shift


class Block(nn.Module):
    """Attention and feed-forward, each with a residual."""

    shares_keys = False  # several heads read one head's keys and values

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.norm_first, self.dropout = config.nhead, config.norm_first, config.dropout
        self.attention_norm = LevelNorm(config.d_model, config.num_levels)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)
        self.feedforward_norm = LevelNorm(config.d_model, config.num_levels)
        self.expand = nn.Linear(config.d_model, config.dim_feedforward)
        self.project = nn.Linear(config.dim_feedforward, config.d_model)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend, levels: Tensor | None, cache: LayerCache | None) -> Tensor:
        """``x (B, S, D)`` -> ``(B, S, D)``; ``cache`` receives keys and values of positions 0..S-1."""
        x = self._residual(x, self.attention_norm, lambda h: self._attend(h, rotary, attend, cache), levels)
        return self._residual(x, self.feedforward_norm, lambda h: self._feed_forward(h, self), levels)

    def forward_from(self, first: int, x: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend, levels: Tensor | None) -> Tensor:
        """``forward`` for who wants positions from ``first`` on alone: they see all others -> ``(B, S - first, D)``."""
        h = self.attention_norm(x, levels) if self.norm_first else x
        x = self._residual(x[:, first:], self.attention_norm, lambda _: self._attend_from(first, h, rotary, attend), levels)
        return self._residual(x, self.feedforward_norm, lambda h: self._feed_forward(h, self), levels)

    def step(self, x: Tensor, step: Step, cache: LayerCache, layers: StepLayers | None = None) -> Tensor:
        """New positions of a row: ``x (B, S, D)`` -> ``(B, S, D)``; ``layers`` are the block's own, made ready for steps."""
        ready = layers or self
        x = self._residual(x, self.attention_norm, lambda h: self._attend_step(h, step, cache, ready), None)
        return self._residual(x, self.feedforward_norm, lambda h: self._feed_forward(h, ready), None)

    def ready_for_steps(self, batch: int) -> StepLayers:
        """The products for steps of ``batch`` rows, as long as the weights stay."""
        return StepLayers(*(StepLinear(layer, batch) for layer in (self.qkv, self.out, self.expand, self.project)))

    def _feed_forward(self, x: Tensor, layers: Block | StepLayers) -> Tensor:
        return layers.project(F.gelu(layers.expand(x)))

    def _residual(self, x, norm, inner, levels):  # type: ignore[no-untyped-def]
        if self.norm_first:
            return x + F.dropout(inner(norm(x, levels)), self.dropout, self.training)
        return norm(x + F.dropout(inner(x), self.dropout, self.training), levels)

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, dim = qkv.shape
        q, k, v = qkv.view(batch, length, 3, self.heads, dim // 3 // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v  # (B, H, S, D / H) each

    def _attend(self, x: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend, cache: LayerCache | None) -> Tensor:
        q, k, v = self._split(self.qkv(x))
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        if cache is not None:
            cache.keys[:, :, : k.shape[2]] = k
            cache.values[:, :, : v.shape[2]] = v
        dropout = self.dropout if self.training else 0.0
        mixed = attention(q, k, v, mask=attend.mask, causal=attend.causal, dropout=dropout, shares_keys=self.shares_keys)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _attend_from(self, first: int, x: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        """Queries of positions from ``first`` on, keys and values of all ``x (B, S, D)`` -> ``(B, S - first, D)``."""
        dim, (weight, bias) = x.shape[2], (self.qkv.weight, self.qkv.bias)
        q = F.linear(x[:, first:], weight[:dim], bias[:dim]).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = F.linear(x, weight[dim:], bias[dim:]).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, *(table[first:] for table in rotary)), rotate(k, *rotary)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend.mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _attend_step(self, x: Tensor, step: Step, cache: LayerCache, layers: Block | StepLayers) -> Tensor:
        q, k, v = self._split(layers.qkv(x))
        q, k = rotate(q, step.cos, step.sin), rotate(k, step.cos, step.sin)
        if step.slot is not None:
            cache.keys[:, :, step.slot] = k[:, :, 0]
            cache.values[:, :, step.slot] = v[:, :, 0]
        else:  # under autocast the cache is wider than what is put in it
            cache.keys[step.rows, :, step.slots] = k.transpose(1, 2).to(cache.keys.dtype)  # (B, S, H, D / H)
            cache.values[step.rows, :, step.slots] = v.transpose(1, 2).to(cache.values.dtype)
        keys, values = cache.keys[:, :, : step.extent], cache.values[:, :, : step.extent]
        # Not is_causal: with one query and many keys, torch would let it see key 0 alone.
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=step.bias, enable_gqa=self.shares_keys)
        return layers.out(mixed.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """A stack of blocks over embedded inputs, with a final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks: Sequence[Block] = nn.ModuleList(Block(config) for _ in range(config.num_layers))  # type: ignore[assignment]
        self.final_norm = LevelNorm(config.d_model, config.num_levels) if config.norm_first else None
        self.stepping = Stepping()
        self._init_weights()

    def forward(
        self, x: Tensor, attend: Attend, *, levels: Tensor | None = None, caches: list[LayerCache] | None = None, first: int = 0
    ) -> Tensor:
        """``x (B, S, D)`` -> hidden ``(B, S, D)``; ``levels (B,)`` where norms depend on one.

        With ``first``, which a mask that all positions share allows, hidden ``(B, S - first, D)`` of positions from there on alone: the
        last block makes no others.
        """
        position = torch.arange(x.shape[1], device=x.device)
        rotary = self.rotary(position, compute_dtype(x))
        x = F.dropout(x, self.config.dropout, self.training)
        whole = self.blocks[:-1] if first else self.blocks
        for index, block in enumerate(whole):
            x = block(x, rotary, attend, levels, caches[index] if caches else None)
        if first:
            x = self.blocks[-1].forward_from(first, x, rotary, attend, levels)
        return self.final_norm(x, levels) if self.final_norm is not None else x

    def step(self, x: Tensor, step: Step, caches: list[LayerCache], layers: Sequence[StepLayers] | None = None) -> Tensor:
        """New positions of a row, mostly one: ``x (B, S, D)`` -> ``(B, S, D)``; with ``layers`` of ``ready_for_steps``, faster on CPUs."""
        for index, (block, cache) in enumerate(zip(self.blocks, caches, strict=True)):
            x = block.step(x, step, cache, layers[index] if layers else None)
        return self.final_norm(x, None) if self.final_norm is not None else x

    def ready_for_steps(self, batch: int) -> list[StepLayers]:
        """Every block's products for many steps of ``batch`` rows; they hold a copy of the weights."""
        return [block.ready_for_steps(batch) for block in self.blocks]

    def rotary(self, position: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines of ``position (...)`` -> two ``(..., D / H)``."""
        return rotary_table(position, self.config.d_model // self.config.nhead, dtype)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.blocks[0].qkv.weight.device

    def new_caches(self, batch: int, capacity: int) -> list[LayerCache]:
        """Empty caches of every layer for ``batch`` rows of up to ``capacity`` positions."""
        weight: Tensor = self.blocks[0].qkv.weight
        size = self.config.d_model // self.config.nhead
        return [LayerCache(batch, self.config.nhead, capacity, size, device=weight.device, dtype=weight.dtype) for _ in self.blocks]

    def _init_weights(self) -> None:
        for block in self.blocks:
            for layer in (block.qkv, block.expand):
                nn.init.normal_(layer.weight, std=self.config.d_model**-0.5)
                nn.init.zeros_(layer.bias)
            for layer in (block.out, block.project):  # residual branches start small together (GPT-2)
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5 / (2 * self.config.num_layers) ** 0.5)
                nn.init.zeros_(layer.bias)


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type of the products of ``x`` with weights: another under autocast, where rotating in float32 would double the traffic."""
    kind = x.device.type
    is_casting = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # meta tensors know no autocast
    return torch.get_autocast_dtype(kind) if is_casting else x.dtype


def rotary_table(position: Tensor, head_dim: int, dtype: torch.dtype, *, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of ``position (...)`` for ``rotate`` -> two ``(..., head_dim)``."""
    half = head_dim // 2
    frequency = base ** (-torch.arange(half, device=position.device, dtype=torch.float32) / half)
    angle = position.float()[..., None] * frequency
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position: pair dimension i with i + half; ``sin`` carries the sign."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([x[..., half:], x[..., :half]], -1) * sin
