"""ConvNeXt blocks over a sequence of frames (Liu et al. 2022; in one dimension as in Vocos, Siuzdak 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL_SIZE = 7  # frames


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, pointwise expansion, residual.

    A frame sees ``kernel_size - 1 - lookahead`` frames of the past and ``lookahead`` of the future; frames
    beyond the mask count as silence, so that a clip gives the same output alone and in a padded batch.
    """

    def __init__(self, dim: int, *, expansion: int = 3, kernel_size: int = KERNEL_SIZE, lookahead: int = 1, scale: float = 0.1) -> None:
        super().__init__()
        self.pad = (kernel_size - 1 - lookahead, lookahead)
        self.depthwise = nn.Parameter(torch.randn(kernel_size, dim) * kernel_size**-0.5)
        self.depthwise_bias = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, expansion * dim)
        self.project = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x (B, T, D)``, ``mask (B, T, 1)`` of zeros and ones -> ``(B, T, D)``."""
        length = x.shape[1]
        padded = F.pad(x * mask, (0, 0, *self.pad))  # (B, T + K - 1, D)
        mixed = self.depthwise_bias + sum(
            (padded[:, k : k + length] * weight for k, weight in enumerate(self.depthwise)), start=torch.zeros((), dtype=x.dtype)
        )
        return x + self.scale * self.project(F.gelu(self.expand(self.norm(mixed))))


class ConvNeXt(nn.Module):
    """A stack of blocks at one frame rate."""

    def __init__(self, dim: int, num_blocks: int, *, lookahead: int = 1, kernel_size: int = KERNEL_SIZE) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(dim, kernel_size=kernel_size, lookahead=lookahead, scale=1.0 / num_blocks) for _ in range(num_blocks)
        )
        self.output_norm = nn.LayerNorm(dim)
        self.lookahead = num_blocks * lookahead
        self.lookback = num_blocks * (kernel_size - 1 - lookahead)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x (B, T, D)``, ``mask (B, T, 1)`` -> ``(B, T, D)``."""
        x = self.input_norm(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.output_norm(x)
