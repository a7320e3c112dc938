"""Connectionist temporal classification (Graves et al. 2006): its loss, and the pieces that are likeliest frame by frame.

The blank is the last class, after the pieces.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from valle.models.loss import LossTerm


def ctc_term(logits: Tensor, frames: Tensor, pieces: Tensor, lengths: Tensor) -> LossTerm:
    """Nats of ``pieces (B, P)``, ``lengths (B,)``, under ``logits (B, F, V + 1)`` of ``frames (B,)``; counted by piece.

    Rows with fewer frames than their pieces need have no loss.  Hits are not counted: that takes a decoding.
    """
    log_probability = logits.float().log_softmax(-1).transpose(0, 1)  # (F, B, V + 1)
    nats = F.ctc_loss(log_probability, pieces, frames, lengths, blank=logits.shape[-1] - 1, reduction="sum", zero_infinity=True)
    return LossTerm(nats, lengths.sum(), torch.zeros_like(lengths.sum()))


def ctc_greedy(logits: Tensor, frames: Tensor) -> list[list[int]]:
    """The likeliest class of each frame of ``logits (B, F, V + 1)``, repetitions once, blanks left out: pieces of every row."""
    blank, found = logits.shape[-1] - 1, []
    for row, count in zip(logits.argmax(-1), frames.tolist(), strict=True):
        classes = torch.unique_consecutive(row[:count]).tolist()
        found.append([piece for piece in classes if piece != blank])
    return found
