"""Product quantizers that learn with the model around them: Gumbel softmax and online k-means (vq-wav2vec, Baevski et al. 2020, 3).

A frame becomes one code in each of ``groups`` groups, and its vector is the groups' vectors side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProductQuantized(NamedTuple):
    """What a quantizer makes of a batch of frames."""

    vectors: Tensor  # (B, T, D), with a gradient to the input
    codes: Tensor  # (B, T, G) int64
    penalty: Tensor  # () to be added to the loss with the quantizer's weight


class GumbelQuantizer(nn.Module):
    """The likeliest code of noisy logits going forward, their softmax going backward (Jang et al. 2016).

    ``penalty`` is the share of codes that the batch does without, ``(GV - sum of the groups' perplexities) / GV`` over the mean
    distribution without noise (wav2vec 2.0, Baevski et al. 2020, equation 4).
    """

    def __init__(self, dim: int, *, groups: int, size: int, out_dim: int) -> None:
        super().__init__()
        _check(out_dim, groups)
        self.groups, self.size = groups, size
        self.logits = nn.Linear(dim, groups * size)
        nn.init.normal_(self.logits.weight)  # as published: logits far apart, so that codes differ from the start
        nn.init.zeros_(self.logits.bias)
        self.codebook = nn.Parameter(torch.rand(groups, size, out_dim // groups))
        self.temperature = 2.0

    def forward(self, x: Tensor, valid: Tensor, *, generator: torch.Generator | None = None) -> ProductQuantized:
        """``x (B, T, F)``, ``valid (B, T)`` bool; noise only in training."""
        logits = self.logits(x).unflatten(-1, (self.groups, self.size)).float()
        noisy = logits
        if self.training:
            uniform = torch.rand(logits.shape, generator=generator, device=logits.device).clamp(1e-9, 1 - 1e-7)
            noisy = logits - (-uniform.log()).log()
        codes = noisy.argmax(-1)
        soft = (noisy / self.temperature).softmax(-1)
        chosen = F.one_hot(codes, self.size) + (soft - soft.detach())
        vectors = torch.einsum("btgv,gvd->btgd", chosen.to(self.codebook.dtype), self.codebook).flatten(2)
        return ProductQuantized(vectors, codes, self._unused(logits.softmax(-1), valid))

    def _unused(self, share: Tensor, valid: Tensor) -> Tensor:
        mean = (share * valid[..., None, None]).sum((0, 1)) / valid.sum().clamp(min=1)  # (G, V)
        entropy = -(mean * mean.clamp(min=1e-9).log()).sum(-1)
        return 1 - entropy.exp().sum() / (self.groups * self.size)


class KMeansQuantizer(nn.Module):
    """The nearest code of each part of the frame; codes are drawn to their frames by gradient, and frames to their codes.

    ``penalty`` is ``|sg(z) - e|^2 + 0.25 |z - sg(e)|^2`` a frame (equation 2), as the mean over dimensions.
    """

    COMMITMENT = 0.25

    def __init__(self, dim: int, *, groups: int, size: int, out_dim: int) -> None:
        super().__init__()
        _check(out_dim, groups)
        self.groups, self.size = groups, size
        self.project = nn.Linear(dim, out_dim)
        self.norm = nn.LayerNorm(out_dim // groups, elementwise_affine=False)  # parts of unit size, among codes of unit size
        self.codebook = nn.Parameter(torch.randn(groups, size, out_dim // groups))

    def forward(self, x: Tensor, valid: Tensor, *, generator: torch.Generator | None = None) -> ProductQuantized:
        """``x (B, T, F)``, ``valid (B, T)`` bool; nothing is drawn, so ``generator`` goes unused."""
        parts = self.norm(self.project(x).unflatten(-1, (self.groups, -1)).float())  # (B, T, G, d)
        distance = self.codebook.square().sum(-1) - 2 * torch.einsum("btgd,gvd->btgv", parts, self.codebook)
        codes = distance.argmin(-1)
        nearest = self.codebook[torch.arange(self.groups, device=codes.device), codes]  # (B, T, G, d)
        error = (nearest - parts.detach()).square() + self.COMMITMENT * (parts - nearest.detach()).square()
        penalty = (error.mean((2, 3)) * valid).sum() / valid.sum().clamp(min=1)
        vectors = parts + (nearest - parts).detach()
        return ProductQuantized(vectors.flatten(2), codes, penalty)


def build_quantizer(kind: str, dim: int, *, groups: int, size: int, out_dim: int) -> GumbelQuantizer | KMeansQuantizer:
    """``kind`` is gumbel or kmeans."""
    return (GumbelQuantizer if kind == "gumbel" else KMeansQuantizer)(dim, groups=groups, size=size, out_dim=out_dim)


def gumbel_temperature(step: int, *, first: float = 2.0, last: float = 0.5, factor: float) -> float:
    """Falls by ``factor`` a step, from ``first`` to ``last`` (wav2vec 2.0, section 4.2, has 0.999995)."""
    return max(last, first * factor**step)


def _check(out_dim: int, groups: int) -> None:
    if out_dim % groups:
        raise ValueError(f"expected a width that {groups} groups divide, found {out_dim}")
