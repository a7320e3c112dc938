"""Filling masked positions in a few parallel passes: the most confident stay, the rest is masked again (MaskGIT, Chang et al. 2022).

SoundStorm (Borsos et al. 2023, 3.3) does it level by level, and so knows only one column of codes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import cos, pi

import torch
from torch import Tensor

from valle.decoding.sampling import RowNoise, Sampling, sample_all


def masked_after(count: int, passes: int) -> list[int]:
    """How many of ``count`` masked positions are still masked after each of ``passes``: the cosine schedule (MaskGIT, 3.3).

    Every pass fills a position at least as long as one is left for the last, which fills all the rest.

    >>> masked_after(10, 4)
    [9, 7, 3, 0]
    """
    left: list[int] = []
    for number in range(1, passes):
        most = min(int(count * cos(pi / 2 * number / passes)), (left[-1] if left else count) - 1)
        left.append(max(most, min(count, 1)))
    return [*left, 0]


def fill_masked(
    logits_of: Callable[[Tensor, Tensor], Tensor],
    tokens: Tensor,
    masked: Tensor,
    sampling: Sampling,
    *,
    passes: int,
    seeds: Sequence[int],
) -> Tensor:
    """``tokens (B, T)`` with those that are ``masked (B, T)`` filled in ``passes`` by ``logits_of(tokens, masked) -> (B, T, V)``.

    A pass draws every masked position and keeps the likeliest draws of each row, as many as ``masked_after`` says; the last
    takes the likeliest token everywhere.  A row and position has noise of its own, so batch mates and padding change nothing.
    """
    left = torch.tensor([masked_after(count, passes) for count in masked.sum(1).tolist()], device=tokens.device)  # (B, passes)
    for number in range(passes):
        logits = logits_of(tokens, masked)
        drawn_by = sampling if number < passes - 1 else replace(sampling, temperature=0.0)
        noise = RowNoise([seed * passes + number for seed in seeds], logits.shape[-1], tokens.device)
        drawn = sample_all(logits, drawn_by, noise)
        confidence = logits.float().log_softmax(-1).gather(-1, drawn[..., None])[..., 0].masked_fill(~masked, -torch.inf)
        rank = confidence.argsort(dim=1, descending=True, stable=True).argsort(1)
        kept = masked & (rank < (masked.sum(1) - left[:, number])[:, None])
        tokens = torch.where(kept, drawn, tokens)
        masked = masked & ~kept
    return tokens
