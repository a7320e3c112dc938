"""CSM's depth transformer: a small Llama over the levels of one frame (Sesame 2025, and its public code).

It differs from ``DepthTransformer``: positions are rotary, all levels share blocks and input projection, and codes are embedded by the
tables of the transformer over time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from valle.modules.gated_transformer import GatedConfig, GatedTransformer
from valle.modules.level_embedding import LevelEmbedding
from valle.modules.transformer import Attend


class GatedDepth(nn.Module):
    """Predicts levels 1 to ``num_levels - 1`` of a frame, each given the frame's vector and the levels before it."""

    def __init__(self, config: GatedConfig, *, frame_dim: int, num_levels: int, num_codes: int) -> None:
        super().__init__()
        self.projection = nn.Linear(frame_dim, config.d_model, bias=False)
        self.transformer = GatedTransformer(config)
        self.head = nn.Parameter(torch.randn(num_levels - 1, num_codes, config.d_model) * 0.02 * config.d_model**-0.5)

    def forward(self, frames: Tensor, before: Tensor) -> Tensor:
        """``frames (N, frame_dim)``, embeddings of the levels before each, ``before (N, L, frame_dim)`` -> logits ``(L, N, V)``."""
        x = self.projection(torch.cat([frames[:, None], before], 1))  # (N, L + 1, D)
        hidden: Tensor = self.transformer(x, Attend.causally())[:, 1:]
        return torch.einsum("nld,lvd->lnv", hidden, self.head[: before.shape[1]])

    def ready_for_steps(self, embed: LevelEmbedding) -> GatedDepthSteps:
        """Level by level for many frames, as long as the weights stay."""
        return GatedDepthSteps(self, embed)


class GatedDepthSteps:
    """A depth transformer that draws; each level is computed with all levels before it anew."""

    def __init__(self, depth: GatedDepth, embed: LevelEmbedding) -> None:
        self.depth, self.tables = depth, embed.weight

    def run(self, frames: Tensor, code: Tensor, choose: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
        """``frames (B, frame_dim)`` and their ``code (B,)`` of level 0 -> codes ``(B,)`` of each level above it.

        ``choose(k, logits (B, V))`` gives those of level k, counted from the first that is predicted.
        """
        codes, known = list[Tensor](), frames.new_zeros(len(frames), 0, frames.shape[1])
        for level in range(len(self.depth.head)):
            known = torch.cat([known, self.tables[level][code][:, None]], 1)
            code = choose(level, self.depth(frames, known)[-1])
            codes.append(code)
        return codes
