"""The sums of a loss, and output layers whose first loss is that of a guess."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100  # no token


class LossTerm(NamedTuple):
    """Sums over the targets of a batch, 0-dim tensors; the mean of many batches is the ratio of their sums."""

    sum: Tensor  # nats
    count: Tensor  # type: ignore[assignment]  # targets; a tuple's own count() gives way
    correct: Tensor  # targets that were the likeliest token


def loss_term(logits: Tensor, targets: Tensor, valid: Tensor, *, weights: Tensor | None = None) -> LossTerm:
    """Cross entropy of ``logits (..., V)`` at ``targets (...)`` where ``valid (...)``; padding is never seen.

    A CPU does not compute on it.  Elsewhere, to leave it out the process would have to wait for the device.
    ``weights``, broadcast to ``(...)``, multiply the nats of each target, but not its count.
    """
    term = cut_term if logits.device.type == "cpu" else masked_term
    return term(logits, targets, valid, weights)


def nats_of_each(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """The summands of ``loss_term``, by place: ``(...)`` nats in single precision or better, NaN where not ``valid``."""
    log_probability = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    nats = -log_probability.gather(-1, targets.masked_fill(~valid, 0)[..., None])[..., 0]
    return nats.masked_fill(~valid, torch.nan)


def cut_term(logits: Tensor, targets: Tensor, valid: Tensor, weights: Tensor | None = None) -> LossTerm:
    """``loss_term`` of what is valid alone."""
    kept = None if weights is None else weights.expand_as(targets)[valid]
    logits, targets = logits[valid], targets[valid]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    correct = (logits.argmax(-1) == targets).sum()
    if kept is None:
        return LossTerm(F.cross_entropy(logits, targets, reduction="sum"), valid.sum(), correct)
    return LossTerm((F.cross_entropy(logits, targets, reduction="none") * kept).sum(), valid.sum(), correct)


def masked_term(logits: Tensor, targets: Tensor, valid: Tensor, weights: Tensor | None = None) -> LossTerm:
    """``loss_term`` with padding of no weight, whose logits may be anything."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).masked_fill(~valid[..., None], 0.0)
    targets = targets.masked_fill(~valid, IGNORED)
    correct = (logits.argmax(-1) == targets).sum()
    if weights is None:
        nats = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="sum", ignore_index=IGNORED)
    else:
        each = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none", ignore_index=IGNORED)
        nats = (each * weights.expand_as(targets).flatten()).sum()
    return LossTerm(nats, valid.sum(), correct)


def token_losses(logits: Tensor, targets: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Nats of ``targets (...)`` under ``logits (..., V)``, and whether each was the likeliest: two ``(...)``, 0 where not ``valid``.

    For losses that weigh their targets; ``loss_term`` sums them.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).masked_fill(~valid[..., None], 0.0)
    targets = targets.masked_fill(~valid, IGNORED)
    nats = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none", ignore_index=IGNORED)
    return nats.view(targets.shape), logits.argmax(-1) == targets


def small_head(dim: int, size: int) -> nn.Linear:
    """An output layer that starts at nearly equal logits, so that the first loss is ln(size)."""
    head = nn.Linear(dim, size)
    nn.init.normal_(head.weight, std=0.02 * dim**-0.5)
    nn.init.zeros_(head.bias)
    return head
