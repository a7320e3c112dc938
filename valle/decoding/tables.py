"""What a model is that draws token after token by table and product alone, so that a kernel may take many steps in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from valle.decoding.seats import Seats


@dataclass(frozen=True)
class TokenTables:
    """Of a model whose tokens are plain numbers, drawn by ``draw_token`` from ``head`` times the hidden state plus ``bias``.

    The input after token number n is ``inputs[token] + places[(n + 1) % P] + around[row, (n + 1) // P] + voices[row]``, added so.
    Token n is one of ``allowed[n % P]``, first and one past the last.  Tensors are float32, but for ``allowed`` (int64).
    """

    head: Tensor  # (V, D)
    bias: Tensor  # (V,), minus infinity for what is never drawn
    inputs: Tensor  # (V or more, D)
    places: Tensor  # (P, D)
    allowed: Tensor  # (P, 2)
    around: Tensor | None  # (B, N, D) of the rows of a batch; what is past its end is as its last
    voices: Tensor | None  # (B, D)


@runtime_checkable
class Tabulated(Protocol):
    """An ``Autoregressor`` that may be one of these."""

    @property
    def tokens_a_frame(self) -> int:
        """By which repetition is counted."""
        ...

    def tables(self, seats: Seats) -> TokenTables | None:
        """Those of the rows ``seats``; None for a model that is more than tables."""
        ...
