"""The one place where padding is told from what is there."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, max_length: int) -> Tensor:
    """``lengths (B,)`` -> ``(B, max_length)`` bool, true where there is something."""
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]
