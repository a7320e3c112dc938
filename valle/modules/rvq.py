"""Residual vector quantization with codebooks learned by moving averages (SoundStream, Zeghidour et al. 2021, III-C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from valle.timeline import ceil_division


class Quantized(NamedTuple):
    """What the quantizer makes of a batch of vectors."""

    vectors: Tensor  # (B, T, D), straight-through: the gradient goes to the input unchanged
    codes: Tensor  # (B, T, Q) int64
    commitment: Tensor  # () mean squared distance of the input of every level to its code


class Codebook(nn.Module):
    """One level: ``size`` vectors that follow the mean of what is assigned to them.

    ``embedding``, ``vector_sum`` and ``count`` always change together, so that a revived code is not pulled back
    to its old place by the next update.
    """

    embedding: Tensor
    vector_sum: Tensor
    count: Tensor

    def __init__(self, size: int, dim: int, *, decay: float, revive_ratio: float) -> None:
        super().__init__()
        self.decay = decay
        self.revive_ratio = revive_ratio
        self.register_buffer("embedding", torch.randn(size, dim))
        self.register_buffer("vector_sum", self.embedding.clone())
        self.register_buffer("count", torch.ones(size))

    def nearest(self, vectors: Tensor) -> Tensor:
        """``vectors (N, D)`` -> index of the nearest code, ``(N,)`` int64."""
        return (self.embedding.square().sum(1) - 2 * vectors @ self.embedding.T).argmin(1)

    @torch.no_grad()
    def start_from(self, vectors: Tensor, *, iterations: int = 10) -> None:
        """K-means on ``vectors (N, D)``; N should be several times the codebook's size."""
        size = self.embedding.shape[0]
        order = torch.randperm(len(vectors), device=vectors.device)
        self.embedding.copy_(vectors[order.repeat(ceil_division(size, len(vectors)))[:size]])
        for _ in range(iterations):
            count, total = self._assigned(vectors, self.nearest(vectors))
            self.embedding.copy_(torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], self.embedding))
        self._restart_averages(count.mean().clamp(min=1e-3))

    @torch.no_grad()
    def update(self, vectors: Tensor, codes: Tensor) -> None:
        """One step of the moving averages over ``vectors (N, D)`` assigned to ``codes (N,)``, summed over all ranks."""
        count, total = self._assigned(vectors, codes)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(count)
            dist.all_reduce(total)
        self.count.lerp_(count, 1 - self.decay)
        self.vector_sum.lerp_(total, 1 - self.decay)
        smoothed = self.count + 1e-5 * self.count.mean()
        self.embedding.copy_(self.vector_sum / smoothed.clamp(min=1e-12)[:, None])

    @torch.no_grad()
    def revive(self, vectors: Tensor) -> int:
        """Move codes used less than ``revive_ratio`` of the mean use onto random ``vectors (N, D)``; returns how many."""
        dead = self.count < self.revive_ratio * self.count.mean()
        fresh = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)]
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(fresh, src=0)
        mean = self.count.mean()
        self.embedding[dead] = fresh[dead]
        self.count[dead] = mean
        self.vector_sum[dead] = fresh[dead] * mean
        return int(dead.sum())

    @property
    def perplexity(self) -> Tensor:
        """Codes in even use that would be as hard to guess, 1 to ``size``, over the last few hundred steps of all ranks."""
        share = self.count / self.count.sum().clamp(min=1e-12)
        return torch.special.entr(share).sum().exp()

    def _assigned(self, vectors: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        count = torch.bincount(codes, minlength=len(self.count)).to(vectors.dtype)
        return count, torch.zeros_like(self.embedding).index_add_(0, codes, vectors)

    def _restart_averages(self, count: Tensor) -> None:
        self.count.fill_(float(count))
        self.vector_sum.copy_(self.embedding * count)


class ResidualVQ(nn.Module):
    """Each level quantizes what the levels before it left over.

    ``dropout`` is the share of training examples that use only a random number of levels, 1 to all, each example its own
    number, so that one model serves every bitrate (in the paper all examples do).  With ``is_fixed`` the codebooks stay as
    they are in training.
    """

    def __init__(
        self, dim: int, *, num_codebooks: int, codebook_size: int, decay: float = 0.99, revive_ratio: float = 0.05, dropout: float = 1.0
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.is_fixed = False
        codebooks = (Codebook(codebook_size, dim, decay=decay, revive_ratio=revive_ratio) for _ in range(num_codebooks))
        self.codebooks: Sequence[Codebook] = nn.ModuleList(codebooks)  # type: ignore[assignment]

    def forward(self, x: Tensor, mask: Tensor, *, revive: bool = False) -> Quantized:
        """Quantize ``x (B, T, D)`` for training; ``mask (B, T)`` bool says which frames are audio."""
        num_levels = self._levels_used(x)  # (B,)
        residual, total = x.detach(), torch.zeros_like(x)
        codes, commitment = [], x.new_zeros(())
        for level, codebook in enumerate(self.codebooks):
            used = mask & (level < num_levels)[:, None]
            chosen = codebook.nearest(residual.flatten(0, 1)).view(mask.shape)
            quantized = codebook.embedding[chosen] * used[..., None]
            error = (x - total - quantized).square().mean(-1)
            commitment = commitment + (error * used).sum() / used.sum().clamp(min=1)
            if self.training and not self.is_fixed:
                codebook.update(residual[used], chosen[used])
                if revive:  # on every rank or none, as it waits for the others: also where no example here uses the level
                    codebook.revive(residual[used if bool(used.any()) else mask])
            total = total + quantized
            residual = residual - quantized
            codes.append(chosen)
        return Quantized(x + (total - x).detach(), torch.stack(codes, -1), commitment / len(self.codebooks))

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """K-means start of every level on ``x (N, D)``."""
        residual = x
        for codebook in self.codebooks:
            codebook.start_from(residual)
            residual = residual - codebook.embedding[codebook.nearest(residual)]

    @torch.no_grad()
    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """``x (B, T, D)`` -> codes ``(B, T, Q)`` int64, the first ``num_codebooks`` levels."""
        codes, residual = [], x.flatten(0, 1)
        for codebook in list(self.codebooks)[:num_codebooks]:
            chosen = codebook.nearest(residual)
            residual = residual - codebook.embedding[chosen]
            codes.append(chosen.view(x.shape[:2]))
        return torch.stack(codes, -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``(B, T, Q)`` of any number of first levels -> ``(B, T, D)``."""
        return torch.stack([codebook.embedding[codes[..., q]] for q, codebook in enumerate(self.codebooks) if q < codes.shape[-1]]).sum(0)

    def _levels_used(self, x: Tensor) -> Tensor:
        most = len(self.codebooks)
        full = torch.full((x.shape[0],), most, device=x.device)
        if not self.training or self.dropout == 0:
            return full
        fewer = torch.randint(1, most + 1, (x.shape[0],), device=x.device)
        return torch.where(torch.rand(x.shape[0], device=x.device) < self.dropout, fewer, full)
