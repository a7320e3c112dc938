"""What the stages share: the sums of a loss, a vocabulary of named ranges, units around a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LossPart(NamedTuple):
    """Sums over the targets of a batch, 0-dim tensors; the mean of many batches is the ratio of their sums."""

    sum: Tensor  # nats
    count: Tensor  # type: ignore[assignment]  # targets; a tuple's own count() gives way
    correct: Tensor  # targets that were the likeliest token


def loss_part(logits: Tensor, targets: Tensor, valid: Tensor) -> LossPart:
    """Cross entropy of ``logits (..., V)`` at ``targets (...)`` where ``valid (...)``; padding is never computed on."""
    logits, targets = logits[valid], targets[valid]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    correct = (logits.argmax(-1) == targets).sum()
    return LossPart(F.cross_entropy(logits, targets, reduction="sum"), valid.sum(), correct)


def valid_mask(lengths: Tensor, max_length: int) -> Tensor:
    """``lengths (B,)`` -> ``(B, max_length)`` bool."""
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]


@dataclass(frozen=True)
class Vocabulary:
    """Named ranges of tokens, one after another, so that no two meanings share a row of a table."""

    ranges: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        return sum(count for _, count in self.ranges)

    def first(self, name: str) -> int:
        """The number of the range's first token."""
        start = 0
        for label, count in self.ranges:
            if label == name:
                return start
            start += count
        raise KeyError(name)


def small_head(dim: int, size: int) -> nn.Linear:
    """An output layer that starts at nearly equal logits, so that the first loss is ln(size)."""
    head = nn.Linear(dim, size)
    nn.init.normal_(head.weight, std=0.02 * dim**-0.5)
    nn.init.zeros_(head.bias)
    return head


class UnitWindow(nn.Module):
    """What is said around each frame: the units within ``reach`` of the frame's own, past the row's ends a padding embedding."""

    def __init__(self, *, num_units: int, d_model: int, reach: int, units_per_period: int, frames_per_period: int) -> None:
        super().__init__()
        self.num_units, self.reach = num_units, reach
        self.units_per_period, self.frames_per_period = units_per_period, frames_per_period
        self.embed = nn.Embedding(num_units + 1, d_model // 4)  # the last is padding
        self.project = nn.Linear((2 * reach + 1) * (d_model // 4), d_model)

    def forward(self, units: Tensor, unit_lengths: Tensor, num_frames: int) -> Tensor:
        """``units (B, T_u)`` -> ``(B, num_frames, D)``."""
        near = self.near(units, unit_lengths, torch.arange(num_frames, device=units.device))
        return self.project(self.embed(near).flatten(2))

    def near(self, units: Tensor, unit_lengths: Tensor, frames: Tensor) -> Tensor:
        """The units around ``frames (T,)`` -> ``(B, T, 2 reach + 1)``, ``num_units`` for padding."""
        own = frames * self.units_per_period // self.frames_per_period
        index = own[:, None] + torch.arange(-self.reach, self.reach + 1, device=units.device)  # (T, W)
        inside = (index >= 0) & (index < unit_lengths[:, None, None])  # (B, T, W)
        if units.shape[1] == 0:
            return torch.full(inside.shape, self.num_units, device=units.device)
        picked = units[:, index.clamp(0, units.shape[1] - 1)]
        return torch.where(inside, picked, self.num_units)
