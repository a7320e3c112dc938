"""Steps of a model that predicts the levels of a frame at two times: level 0 first, the others some steps later (Moshi, 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from valle.modules.masks import valid_mask


@dataclass(frozen=True)
class AcousticDelay:
    """Step s holds level 0 of frame s and the other levels of frame s - ``steps``, ``missing`` where there is no such frame."""

    steps: int
    missing: int

    def apply(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """``codes (B, T, Q)`` of ``lengths (B,)`` frames -> ``(B, T + steps, Q)``."""
        codes = torch.where(valid_mask(lengths, codes.shape[1])[..., None], codes, self.missing)
        if self.steps == 0:
            return codes
        first = F.pad(codes[..., :1], (0, 0, 0, self.steps), value=self.missing)
        others = F.pad(codes[..., 1:], (0, 0, self.steps, 0), value=self.missing)
        return torch.cat([first, others], -1)

    def undo(self, delayed: Tensor) -> Tensor:
        """``(..., T + steps, Q)`` -> the frames ``(..., T, Q)``."""
        frames = delayed.shape[-2] - self.steps
        return torch.cat([delayed[..., :frames, :1], delayed[..., self.steps :, 1:]], -1)

    def as_begun(self, delayed: Tensor) -> Tensor:
        """``(n, Q)`` from the middle of a row, as a crop that begins there shows it: levels of frames before it are missing."""
        if self.steps == 0:
            return delayed
        begun = delayed.clone()
        begun[: self.steps, 1:] = self.missing
        return begun
