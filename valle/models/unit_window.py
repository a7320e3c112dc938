"""Units beside frames: how an acoustic stage hears what is said."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from valle.timeline import Periods


class UnitWindow(nn.Module):
    """What is said around each frame: the units within ``reach`` of the frame's own, past the row's ends a padding embedding."""

    def __init__(self, *, num_units: int, d_model: int, reach: int, periods: Periods) -> None:
        super().__init__()
        self.num_units, self.reach, self.periods = num_units, reach, periods
        self.embed = nn.Embedding(num_units + 1, d_model // 4)  # the last is padding
        self.project = nn.Linear((2 * reach + 1) * (d_model // 4), d_model)

    def forward(self, units: Tensor, unit_lengths: Tensor, num_frames: int) -> Tensor:
        """``units (B, T_u)`` -> ``(B, num_frames, D)``."""
        near = self.near(units, unit_lengths, torch.arange(num_frames, device=units.device))
        return self.project(self.embed(near).flatten(2))

    def near(self, units: Tensor, unit_lengths: Tensor, frames: Tensor) -> Tensor:
        """The units around ``frames (T,)`` -> ``(B, T, 2 reach + 1)``, ``num_units`` for padding."""
        own = self.periods.unit_of_frame(frames)
        index = own[:, None] + torch.arange(-self.reach, self.reach + 1, device=units.device)  # (T, W)
        inside = (index >= 0) & (index < unit_lengths[:, None, None])  # (B, T, W)
        if units.shape[1] == 0:
            return torch.full(inside.shape, self.num_units, device=units.device)
        picked = units[:, index.clamp(0, units.shape[1] - 1)]
        return torch.where(inside, picked, self.num_units)
