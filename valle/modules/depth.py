"""The depth transformer: the levels of one frame, one after another (Lee et al. 2022, 3.2; Moshi, Defossez et al. 2024, 3.4).

It has no positions: what tells levels apart are their own input projections, heads and, by default, block weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.attention import attention
from valle.modules.level_embedding import LevelEmbedding
from valle.modules.transformer import StepLinear


@dataclass(frozen=True)
class DepthConfig:
    """Sizes; ``frame_dim`` is the width of the vector that stands for a frame, ``dim`` the depth transformer's own."""

    frame_dim: int
    dim: int
    nhead: int
    num_layers: int
    num_levels: int  # that are predicted
    codebook_size: int
    learned_start: bool  # before the first level; otherwise the code of the level before it is given
    shared_blocks: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.dim % self.nhead:
            raise UserError(
                f"the depth transformer's width must be a multiple of its heads, found width {self.dim} and {self.nhead} heads; "
                "change --depth-dim or --depth-nhead"
            )


class LevelLinear(nn.Module):
    """A linear layer with weights of its own for each level, or one for all (``num_levels`` 1)."""

    def __init__(self, num_levels: int, in_features: int, out_features: int, *, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_levels, out_features, in_features) * std)
        self.bias = nn.Parameter(torch.zeros(num_levels, out_features))

    def forward(self, x: Tensor) -> Tensor:
        """``x (L, N, in_features)`` -> ``(L, N, out_features)``."""
        if len(self.weight) == 1:
            return F.linear(x, self.weight[0], self.bias[0])
        return torch.baddbmm(self.bias[:, None], x, self.weight.transpose(1, 2))

    def of_level(self, level: int) -> nn.Linear:
        """The layer of one level, on the same memory."""
        place = min(level, len(self.weight) - 1)
        return _linear(self.weight[place], self.bias[place])


class DepthBlock(nn.Module):
    """Attention over the levels so far and feed-forward, each after a norm, with a residual."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        dim, levels = config.dim, 1 if config.shared_blocks else config.num_levels
        small = (2 * config.num_layers) ** -0.5  # residual branches start small together (GPT-2)
        self.heads, self.dropout = config.nhead, config.dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = LevelLinear(levels, dim, 3 * dim, std=dim**-0.5)
        self.out = LevelLinear(levels, dim, dim, std=dim**-0.5 * small)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.expand = LevelLinear(levels, dim, 4 * dim, std=dim**-0.5)
        self.project = LevelLinear(levels, 4 * dim, dim, std=(4 * dim) ** -0.5 * small)

    def forward(self, x: Tensor) -> Tensor:
        """``x (L, N, D)`` -> ``(L, N, D)``; of each of the N frames, a level sees itself and those before it."""
        levels, frames, _ = x.shape
        dropout = self.dropout if self.training else 0.0
        q, k, v = self.qkv(self.attention_norm(x)).view(levels, frames, 3, self.heads, -1).permute(2, 1, 3, 0, 4)  # (N, H, L, D / H)
        mixed = attention(q, k, v, causal=True, dropout=dropout)
        x = x + F.dropout(self.out(mixed.permute(2, 0, 1, 3).flatten(2)), self.dropout, self.training)
        return x + F.dropout(self.project(F.gelu(self.expand(self.feedforward_norm(x)))), self.dropout, self.training)


class DepthTransformer(nn.Module):
    """Level k's input is its projection of the frame's vector plus the embedding of the code of level k - 1; logits of every level.

    With ``learned_start`` the first level's input holds a learned vector in place of a code.
    """

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        levels, dim = config.num_levels, config.dim
        self.projection = nn.Parameter(torch.randn(levels, dim, config.frame_dim) * config.frame_dim**-0.5)
        self.embed = LevelEmbedding(levels - config.learned_start, config.codebook_size, dim)
        self.start = nn.Parameter(torch.randn(dim)) if config.learned_start else None
        self.blocks: Sequence[DepthBlock] = nn.ModuleList(DepthBlock(config) for _ in range(config.num_layers))  # type: ignore[assignment]
        self.final_norm = nn.LayerNorm(dim)
        self.head = LevelLinear(levels, dim, config.codebook_size, std=0.02 * dim**-0.5)  # equal logits: the first loss is ln V

    def forward(self, frames: Tensor, before: Tensor) -> Tensor:
        """``frames (N, frame_dim)`` and the codes of the level before each, ``before (N, L)`` -> logits ``(L, N, V)``.

        With a learned start nothing stands before the first level: ``before (N, L - 1)``.
        """
        x = F.linear(frames, self.projection.flatten(0, 1)).unflatten(-1, self.projection.shape[:2]).transpose(0, 1)  # (L, N, D)
        known = self.embed(before).transpose(0, 1)
        if self.start is not None:
            known = torch.cat([self.start.expand(1, len(frames), -1), known])
        x = x + known
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.final_norm(x))
        return logits

    def ready_for_steps(self, batch: int) -> DepthSteps:
        """Level by level for many frames of ``batch`` rows, as long as the weights stay."""
        return DepthSteps(self, batch)


class DepthSteps:
    """A depth transformer that draws: all that one frame needs is made by ``run`` and gone after it.

    Work is laid out for the few rows of a CPU, where each operation has a price of its own: one product projects all levels,
    and keys and values of a level are put to those before it at once.
    """

    def __init__(self, depth: DepthTransformer, batch: int) -> None:
        levels = range(depth.config.num_levels)
        self.heads, self.final_norm = depth.config.nhead, depth.final_norm
        self.start = torch.empty(0) if depth.start is None else depth.start.detach()
        self.projection = StepLinear(_linear(depth.projection.flatten(0, 1), None), batch)
        products = [(block.qkv, block.out, block.expand, block.project) for block in depth.blocks]
        self.layers = [[[StepLinear(layer.of_level(k), batch) for layer in block] for block in products] for k in levels]
        self.norms = [(block.attention_norm, block.feedforward_norm) for block in depth.blocks]
        self.head = [StepLinear(depth.head.of_level(k), batch) for k in levels]
        self.tables = list(depth.embed.table().detach().chunk(len(depth.embed.weight)))

    def run(self, frames: Tensor, code: Tensor | None, choose: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
        """``frames (B, frame_dim)``, the ``code (B,)`` of the level before the first (None with a start) -> codes ``(B,)`` of each level.

        ``choose(k, logits (B, V))`` gives those of level k, counted from the first that is predicted.
        """
        projected = self.projection(frames[:, None]).view(len(frames), len(self.head), 1, -1)
        tables = iter(self.tables)
        cache: list[Tensor | None] = [None] * len(self.norms)
        codes: list[Tensor] = []
        for level, head in enumerate(self.head):
            known = self.start if code is None else F.embedding(code, next(tables))[:, None]
            x = projected[:, level] + known  # (B, 1, D)
            for index, (norms, layers) in enumerate(zip(self.norms, self.layers[level], strict=True)):
                x, cache[index] = self._block(x, cache[index], norms, layers)
            code = choose(level, head(self.final_norm(x))[:, 0])
            codes.append(code)
        return codes

    def _block(
        self, x: Tensor, past: Tensor | None, norms: tuple[nn.LayerNorm, nn.LayerNorm], layers: Sequence[StepLinear]
    ) -> tuple[Tensor, Tensor]:
        """``x (B, 1, D)``, keys and values so far ``(B, 2, H, k, D / H)`` -> the same, one level on."""
        qkv, out, expand, project = layers
        own = qkv(norms[0](x)).view(len(x), 3, self.heads, 1, -1)
        known = own[:, 1:] if past is None else torch.cat([past, own[:, 1:]], 3)
        # The first level sees itself alone, so what it attends to is its own value.
        mixed = own[:, 2] if past is None else F.scaled_dot_product_attention(own[:, 0], known[:, 0], known[:, 1])
        x = x + out(mixed.reshape(x.shape))
        return x + project(F.gelu(expand(norms[1](x)))), known


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer on the memory of ``weight (out, in)`` and ``bias (out,)``, which does not learn."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)  # type: ignore[assignment]
    return layer
