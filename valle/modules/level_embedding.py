"""Embeddings of the codes of a frame, a table a level, and of the codes that are not there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LevelEmbedding(nn.Module):
    """Codes of several levels -> vectors; number ``codebook_size`` is a missing code, whose vector is zero whatever is learned."""

    offsets: Tensor

    def __init__(self, num_levels: int, codebook_size: int, dim: int, *, std: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_levels, codebook_size, dim) * std)
        self.register_buffer("offsets", torch.arange(num_levels) * (codebook_size + 1), persistent=False)

    def table(self) -> Tensor:
        """All rows ``(num_levels * (codebook_size + 1), D)``, a zero behind each level's; made once, it serves many calls."""
        return F.pad(self.weight, (0, 0, 0, 1)).flatten(0, 1)

    def forward(self, codes: Tensor, table: Tensor | None = None) -> Tensor:
        """``codes (..., num_levels)`` -> ``(..., num_levels, D)``."""
        return F.embedding(codes + self.offsets, self.table() if table is None else table)
