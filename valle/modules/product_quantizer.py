"""Product quantizers that learn with the model around them: Gumbel softmax and online k-means (vq-wav2vec, Baevski et al. 2020, 3).

A frame becomes one code in each of ``groups`` groups, and its vector is the groups' vectors side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

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


@dataclass(frozen=True)
class QuantizerConfig:
    """Sizes of a product quantizer, and the width of its vectors."""

    kind: Literal["gumbel", "kmeans"] = "gumbel"
    groups: int = 2
    size: int = 320  # codes in a group
    out_dim: int = 256

    def build(self, dim: int) -> GumbelQuantizer | KMeansQuantizer:
        """Of frames of width ``dim``."""
        return build_quantizer(self.kind, dim, groups=self.groups, size=self.size, out_dim=self.out_dim)


class Bottleneck(nn.Module):
    """Frames as the context network of vq-wav2vec hears them: each as its codes' vector, brought back to the frames' width."""

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__()
        self.quantizer = config.build(dim)
        self.unquantize = nn.Linear(config.out_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x (B, T, F)`` -> ``(B, T, F)``."""
        everywhere = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)  # decides the penalty alone
        return self.unquantize(self.quantizer(x, everywhere).vectors)

    def vectors(self, x: Tensor) -> Tensor:
        """``x (B, T, F)`` -> the very vectors of its codes ``(B, T, out_dim)``, equal for equal codes."""
        everywhere = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        codes = self.quantizer(x, everywhere).codes
        groups = torch.arange(self.quantizer.groups, device=x.device)
        return self.quantizer.codebook[groups, codes].flatten(2)


def build_quantizer(kind: str, dim: int, *, groups: int, size: int, out_dim: int) -> GumbelQuantizer | KMeansQuantizer:
    """``kind`` is gumbel or kmeans."""
    return (GumbelQuantizer if kind == "gumbel" else KMeansQuantizer)(dim, groups=groups, size=size, out_dim=out_dim)


FIRST_TEMPERATURE, LAST_TEMPERATURE = 2.0, 0.5  # wav2vec 2.0, section 4.2


def gumbel_temperature_of_share(share: float, *, first: float = FIRST_TEMPERATURE, last: float = LAST_TEMPERATURE) -> float:
    """Falls geometrically from ``first`` at 0 to ``last`` at 1 and after, so that a run of any length ends cool."""
    return first * (last / first) ** min(1.0, max(0.0, share))


def gumbel_temperature(step: int, *, first: float = FIRST_TEMPERATURE, last: float = LAST_TEMPERATURE, factor: float) -> float:
    """Falls by ``factor`` a step, from ``first`` to ``last`` (wav2vec 2.0, section 4.2, has 0.999995)."""
    return max(last, first * factor**step)


def _check(out_dim: int, groups: int) -> None:
    if out_dim % groups:
        raise ValueError(f"expected a width that {groups} groups divide, found {out_dim}")
