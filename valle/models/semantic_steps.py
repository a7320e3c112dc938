"""Decoding units by tokens that last several frames: budgets in frames, and a prompt's edge that is said anew."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from valle.models.semantic import SemanticLM, _Continuation


class LongTokens(_Continuation):
    """What the engine sees of a model whose tokens last several frames.

    ``edges`` are a row's units after its last settled token: a token that is cut off by the prompt's end may go on past it,
    so what stands there is drawn anew among the tokens that say the same.  Limits count frames after the prompt: no end
    is drawn before ``min_new``, and nothing but the end once ``max_new`` are there.
    """

    def __init__(self, model: SemanticLM, edges: Sequence[Sequence[int]], *, min_new: Sequence[int], max_new: Sequence[int]) -> None:
        super().__init__(model)
        self.edges = [list(edge) for edge in edges]
        self.frames = [-len(edge) for edge in edges]  # beyond the prompt
        self.least, self.most = list(min_new), list(max_new)

    @property
    def max_draws(self) -> list[int]:
        """Tokens that a row draws at most, its end included; each lasts a frame or more."""
        return [most - frames + 1 if most > 0 else 0 for most, frames in zip(self.most, self.frames, strict=True)]

    def logits(self, hidden: Tensor, positions: Tensor) -> Tensor:
        logits = self.next_logits(hidden)
        for row, edge in enumerate(self.edges):
            if edge:
                allowed = torch.tensor(self.agreeing(edge), device=logits.device) + self.model.first_unit
                only = torch.full_like(logits[row], -torch.inf)
                only[allowed] = logits[row, allowed]
                logits[row] = only
            elif self.frames[row] >= self.most[row]:
                logits[row] = -torch.inf
                logits[row, self.end_token] = 0.0
            elif self.frames[row] < self.least[row]:
                logits[row, self.end_token] = -torch.inf
        return logits

    def next_inputs(self, tokens: Tensor, positions: Tensor) -> Tensor:
        inputs, said = self.extend(tokens)
        for row, units in enumerate(said):
            self.frames[row] += units
            self.edges[row] = self.edges[row][units:]
        return inputs

    @abstractmethod
    def next_logits(self, hidden: Tensor) -> Tensor:
        """``hidden (B, D)`` -> logits ``(B, V)`` of what may follow, in memory of their own."""

    @abstractmethod
    def agreeing(self, edge: list[int]) -> list[int]:
        """Tokens, counted from the first unit, that say ``edge``, a beginning of it, or more than it."""

    @abstractmethod
    def extend(self, tokens: Tensor) -> tuple[Tensor, list[int]]:
        """Tokens ``(B,)`` just drawn -> inputs ``(B, D)``, and how many frames each lasts (an end none)."""


def tokens_in(window: int, frames_per_token: float) -> int:
    """Tokens that usually last ``window`` frames, which is what a model was trained on."""
    return max(2, round(window / frames_per_token))
