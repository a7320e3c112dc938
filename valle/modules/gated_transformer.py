"""The transformer of released text models: RMS norms, SwiGLU, heads that share keys (LLaMA, Touvron et al. 2023; Llama 2, 2.2).

It takes the place of ``Transformer`` wherever that is decoded causally; Qwen2 differs by biases before attention alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.transformer import Block, LayerCache, StepLayers, Stepping, Transformer, TransformerConfig, rotary_table


@dataclass(frozen=True)
class GatedConfig(TransformerConfig):
    """``dim_feedforward`` is the width behind the gate; ``num_kv_heads`` heads of keys and values, which divide ``nhead``."""

    num_kv_heads: int = 0
    head_dim: int = 0
    norm_eps: float = 1e-5
    rotary_base: float = 10000.0
    qkv_bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_kv_heads < 1 or self.nhead % self.num_kv_heads or self.head_dim < 2 or self.head_dim % 2:
            raise UserError(
                f"expected heads of keys that divide the {self.nhead} heads, each of an even width, found {self.num_kv_heads} "
                f"of width {self.head_dim}"
            )


class RmsNorm(nn.RMSNorm):
    """``LevelNorm``'s place, without levels."""

    def forward(self, x: Tensor, levels: Tensor | None = None) -> Tensor:
        normed: Tensor = super().forward(x)
        return normed


class GatedBlock(Block):
    """Grouped attention, then ``project(silu(gate) * up)``; gate and up are the halves of ``expand``."""

    def __init__(self, config: GatedConfig) -> None:
        nn.Module.__init__(self)
        self.heads, self.kv_heads, self.head_dim = config.nhead, config.num_kv_heads, config.head_dim
        self.norm_first, self.dropout = True, config.dropout
        self.shares_keys = config.num_kv_heads < config.nhead
        self.attention_norm = RmsNorm(config.d_model, eps=config.norm_eps)  # type: ignore[assignment]
        self.qkv = nn.Linear(config.d_model, (config.nhead + 2 * config.num_kv_heads) * config.head_dim, bias=config.qkv_bias)
        self.out = nn.Linear(config.nhead * config.head_dim, config.d_model, bias=False)
        self.feedforward_norm = RmsNorm(config.d_model, eps=config.norm_eps)  # type: ignore[assignment]
        self.expand = nn.Linear(config.d_model, 2 * config.dim_feedforward, bias=False)
        self.project = nn.Linear(config.dim_feedforward, config.d_model, bias=False)

    def _feed_forward(self, x: Tensor, layers: Block | StepLayers) -> Tensor:
        gate, up = layers.expand(x).chunk(2, -1)
        return layers.project(F.silu(gate) * up)

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = qkv.shape
        rows = qkv.view(batch, length, -1, self.head_dim).transpose(1, 2)  # (B, H + 2 KV, S, D / H)
        q, k, v = rows.split([self.heads, self.kv_heads, self.kv_heads], 1)
        return q, k, v


class GatedTransformer(Transformer):
    """A stack of ``GatedBlock``, with a final norm."""

    config: GatedConfig

    def __init__(self, config: GatedConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.blocks = nn.ModuleList(GatedBlock(config) for _ in range(config.num_layers))  # type: ignore[assignment]
        self.final_norm = RmsNorm(config.d_model, eps=config.norm_eps)  # type: ignore[assignment]
        self.stepping = Stepping()
        self._init_weights()

    def rotary(self, position: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return rotary_table(position, self.config.head_dim, dtype, base=self.config.rotary_base)

    def new_caches(self, batch: int, capacity: int) -> list[LayerCache]:
        weight: Tensor = self.blocks[0].qkv.weight
        heads, size = self.config.num_kv_heads, self.config.head_dim
        return [LayerCache(batch, heads, capacity, size, device=weight.device, dtype=weight.dtype) for _ in self.blocks]

    def _init_weights(self) -> None:
        for block in self.blocks:
            for layer in (block.qkv, block.expand):
                nn.init.normal_(layer.weight, std=self.config.d_model**-0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            for layer in (block.out, block.project):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5 / (2 * self.config.num_layers) ** 0.5)
