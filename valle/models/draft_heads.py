"""Heads that predict tokens further ahead than the next one, from the same hidden state, so that decoding can draft several.

Independent heads look at the hidden state alone (Gloeckle et al. 2024, 2; Medusa, Cai et al. 2024, 2.1.1); chained heads also see the
drafted token before theirs, as the depth transformer of Moshi sees the codebook before (Défossez et al. 2024, 3.4.2; Hydra, Ankner et
al. 2024, 3).  Drafts are verified by ``valle/decoding/multi_token.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.models.loss import LossTerm, loss_term, small_head

DRAFT_HEADS = "drafts."  # how the names of their weights begin in a stage
DRAFT = "draft"  # terms of validation are <stage>_draft1, <stage>_draft2, ...


class DraftHeads(nn.Module):
    """``number`` heads; head ``j`` (from 0) predicts the token that follows the next one by ``j + 1``."""

    def __init__(self, *, dim: int, vocabulary_size: int, number: int, chained: bool) -> None:
        super().__init__()
        self.chained = chained
        self.mix = nn.ModuleList(nn.Linear(2 * dim if chained else dim, dim) for _ in range(number))
        self.heads = nn.ModuleList(small_head(dim, vocabulary_size) for _ in range(number))

    @property
    def number(self) -> int:
        return len(self.heads)

    def forward(self, head: int, state: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """``state (..., D)`` and the embedded token before the predicted one ``(..., D)`` -> the next head's state, logits ``(..., V)``.

        The first head's state is the stage's hidden state; independent heads leave it as it is and do not look at ``before``.
        """
        moved = state + F.gelu(self.mix[head](torch.cat([state, before], -1) if self.chained else state))
        return (moved if self.chained else state), self.heads[head](moved)

    def terms(
        self,
        hidden: Tensor,
        tokens: Tensor,
        valid: Tensor,
        *,
        embed: nn.Module,
        targets: Tensor | None = None,
        level_logits: Callable[[Tensor, int], Tensor] | None = None,
    ) -> list[LossTerm]:
        """Each head's loss; position ``i`` of ``hidden (B, T, D)`` predicts ``tokens (B, T)`` at ``i`` by the stage's own head.

        A target counts where it and its position's own are ``valid (B, T)``.  ``level_logits(logits, j)`` is for stages whose positions
        choose among other logits each, and ``targets`` are their tokens as numbers of those.
        """
        state, length, found = hidden, hidden.shape[1], []
        targets = tokens if targets is None else targets
        for head in range(self.number):
            ahead = min(head + 1, length)
            state, logits = self(head, state[:, : length - ahead], embed(tokens[:, ahead - 1 : length - 1]))
            logits = logits if level_logits is None else level_logits(logits, ahead)
            found.append(loss_term(logits, targets[:, ahead:], valid[:, : length - ahead] & valid[:, ahead:]))
        return found


def draft_heads(*, dim: int, vocabulary_size: int, number: int, chained: bool) -> DraftHeads | None:
    """None for a stage without."""
    return DraftHeads(dim=dim, vocabulary_size=vocabulary_size, number=number, chained=chained) if number else None


def descending_too(term: LossTerm, drafts: Sequence[LossTerm], *, weight: float) -> LossTerm:
    """``term`` as it is, whose gradient is that of itself and ``weight`` times the mean of ``drafts``.

    So what training reports and compares stays the loss of the next token, with and without draft heads.
    """
    if not drafts:
        return term
    extra = weight * torch.stack([draft.sum for draft in drafts]).mean()
    return term._replace(sum=term.sum + (extra - extra.detach()))


def draft_terms(stage: str, drafts: Sequence[LossTerm]) -> dict[str, LossTerm]:
    """Under the names of validation."""
    return {f"{stage}_{DRAFT}{head}": term for head, term in enumerate(drafts, 1)}


def is_draft_term(name: str) -> bool:
    """Whether a term of validation is a draft head's: it is no part of its stage's own loss."""
    return name.partition("_")[2].startswith(DRAFT)


class DraftingView:
    """What decoding with drafts (``valle.decoding.multi_token.Drafter``) asks of the engine's view of a stage."""

    model: Any  # a stage with a ``head``, an ``embed`` and perhaps ``drafts``

    @property
    def num_drafts(self) -> int:
        number: int = self.model.num_drafts
        return number

    def scores(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.head(hidden)
        return logits

    def draft_scores(self, head: int, state: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.model.drafts(head, state, self.model.embed(before))
        return found
