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
        mixed = self._depthwise(F.pad(x * mask, (0, 0, *self.pad)))
        return x + self.scale * self.project(F.gelu(self.expand(self.norm(mixed))))

    def _depthwise(self, padded: Tensor) -> Tensor:
        """``(B, T + K - 1, D)`` -> ``(B, T, D)``, in fp32 also under autocast.

        As a picture one row high whose channels lie last, as they do in memory already: oneDNN has a fast way for that,
        which it lacks for ``conv1d``, and whose gradient it lacks in bfloat16.
        """
        picture = padded.to(self.depthwise.dtype).transpose(1, 2)[:, :, None]  # (B, D, 1, T + K - 1)
        weight = self.depthwise.T[:, None, None].contiguous(memory_format=torch.channels_last)  # (D, 1, 1, K)
        with torch.autocast(padded.device.type, enabled=False):
            return F.conv2d(picture, weight, self.depthwise_bias, groups=padded.shape[-1])[:, :, 0].transpose(1, 2)


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
