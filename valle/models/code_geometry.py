"""Codes start where the codec's own vectors lie, so that a model need not learn anew which codes sound alike.

A residual quantizer's code is a vector, and codes with near vectors are near in sound; a table of random embeddings
knows nothing of it.  VampNet (Garcia et al. 2023) embeds the codec's vectors; here they are where ordinary tables
start, so that the model and its checkpoints stay what they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOGIT_SIZE = 0.1  # of the first logits, nats: small, so that the first loss stays ln V


def embeddings_like(codebooks: Tensor, dim: int) -> Tensor:
    """Codebooks ``(Q, K, D)`` by one random map -> embeddings ``(Q, K, dim)``, the first level's of unit size.

    Distances within a level are kept.  Finer levels, whose vectors are smaller, are drawn half the way (in logarithms)
    to the size of the first: the sum over levels then still resembles what the codec sums, and no level drowns.
    """
    size = codebooks.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12)  # (Q, 1, 1)
    mapping = torch.randn(codebooks.shape[-1], dim) * codebooks.shape[-1] ** -0.5
    return codebooks / (size * size[:1]).sqrt() @ mapping


def heads_like(codebooks: Tensor, dim: int) -> Tensor:
    """Output rows ``(Q, K, dim)`` of the same distances: what raises one code's logit raises its neighbours'."""
    size = codebooks.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12)
    mapping = torch.randn(codebooks.shape[-1], dim) * codebooks.shape[-1] ** -0.5
    return LOGIT_SIZE * dim**-0.5 * (codebooks / size @ mapping)
