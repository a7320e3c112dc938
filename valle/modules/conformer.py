"""Conformer: attention for what is far and a convolution for what is near, between two half feed-forwards (Gulati et al. 2020).

As SoundStorm (Borsos et al. 2023) uses it: rotary positions and kernel 5.  One departure: layer norm stands where the paper's
convolution has batch norm, so that a row in a batch equals the row alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.attention import attention
from valle.modules.transformer import TransformerConfig, compute_dtype, rotary_table, rotate


class FeedForward(nn.Module):
    """Norm, expansion, swish, projection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.norm = nn.LayerNorm(config.d_model)
        self.expand = nn.Linear(config.d_model, config.dim_feedforward)
        self.project = nn.Linear(config.dim_feedforward, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """``x (B, S, D)`` -> ``(B, S, D)``."""
        hidden = F.dropout(F.silu(self.expand(self.norm(x))), self.dropout, self.training)
        return F.dropout(self.project(hidden), self.dropout, self.training)


class SelfAttention(nn.Module):
    """Norm and attention in both directions of time, with rotary positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.nhead, config.dropout
        self.norm = nn.LayerNorm(config.d_model)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], valid: Tensor) -> Tensor:
        """``x (B, S, D)``, ``valid (B, S)`` -> ``(B, S, D)``; every position sees every valid one of its row."""
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, S, D / H) each
        dropout = self.dropout if self.training else 0.0
        q, k, seen = rotate(q, *rotary), rotate(k, *rotary), valid[:, None, None]
        mixed = attention(q, k, v, mask=seen, dropout=dropout)
        return F.dropout(self.out(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)


class Convolution(nn.Module):
    """Norm, gated expansion, convolution of every channel over its neighbours in time, norm, swish, projection."""

    def __init__(self, config: TransformerConfig, *, kernel_size: int) -> None:
        super().__init__()
        self.dropout, self.reach = config.dropout, kernel_size // 2
        self.norm = nn.LayerNorm(config.d_model)
        self.gate = nn.Linear(config.d_model, 2 * config.d_model)
        self.depthwise = nn.Conv1d(config.d_model, config.d_model, kernel_size, padding=self.reach, groups=config.d_model)
        self.inner_norm = nn.LayerNorm(config.d_model)
        self.project = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """``x (B, S, D)``, ``valid (B, S)`` -> ``(B, S, D)``; past a row's end there is silence, whatever the padding holds."""
        gated = F.glu(self.gate(self.norm(x)), -1).masked_fill(~valid[..., None], 0.0)
        near = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        return F.dropout(self.project(F.silu(self.inner_norm(near))), self.dropout, self.training)


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, norm."""

    def __init__(self, config: TransformerConfig, *, kernel_size: int) -> None:
        super().__init__()
        self.first, self.second = FeedForward(config), FeedForward(config)
        self.attention = SelfAttention(config)
        self.convolution = Convolution(config, kernel_size=kernel_size)
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], valid: Tensor) -> Tensor:
        """``x (B, S, D)``, ``valid (B, S)`` -> ``(B, S, D)``."""
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x, rotary, valid)
        x = x + self.convolution(x, valid)
        x = x + 0.5 * self.second(x)
        normed: Tensor = self.norm(x)
        return normed


class Conformer(nn.Module):
    """A stack of Conformer blocks over embedded inputs; every position sees every valid one of its row.

    ``config`` gives the sizes; ``kernel_size`` (odd) is the convolution's, in frames.
    """

    def __init__(self, config: TransformerConfig, *, kernel_size: int) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"a convolution's kernel must be an odd number of frames (5 in the paper), found {kernel_size}")
        self.config = config
        self.blocks = nn.ModuleList(ConformerBlock(config, kernel_size=kernel_size) for _ in range(config.num_layers))
        self._init_weights()

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """``x (B, S, D)``, ``valid (B, S)`` bool -> hidden ``(B, S, D)``; what padding holds reaches no valid position."""
        position = torch.arange(x.shape[1], device=x.device)
        rotary = rotary_table(position, self.config.d_model // self.config.nhead, compute_dtype(x))
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x, rotary, valid)
        return x

    def _init_weights(self) -> None:
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear):
                is_residual = name.endswith(("project", "out"))  # which start small together (GPT-2), four to a block
                depth = (4 * self.config.num_layers) ** -0.5 if is_residual else 1.0
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5 * depth)
                nn.init.zeros_(layer.bias)
