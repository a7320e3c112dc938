"""Decoding units by tokens that last several frames: budgets in frames, and a prompt's edge that is said anew."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from valle.decoding.drawing import Drawn, Known, draw_token
from valle.decoding.engine import Decoder, DecodingRequest, decode
from valle.decoding.read_ahead import Ahead, ReadAhead
from valle.decoding.sampling import Noise, Sampling
from valle.decoding.seats import Seats
from valle.decoding.tables import TokenTables
from valle.models.semantic import SemanticLM, _Continuation


class LongTokenLM(SemanticLM):
    """A semantic stage whose tokens last several frames; prompts, limits, windows and results are frames all the same."""

    def generate(
        self,
        prompts: Sequence[Tensor],
        *,
        max_new: Sequence[int],
        min_new: Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
        at_once: int | None = None,
    ) -> list[Tensor]:
        decoding, request = self.asked(prompts, max_new=max_new, min_new=min_new, sampling=sampling, seeds=seeds, window=window)
        request = replace(request, at_once=at_once)
        return [
            self.frames_said_by(tokens)[len(edge) : len(edge) + most]
            for tokens, edge, most in zip(decode(decoding, request), decoding.edges, max_new, strict=True)
        ]

    def read_ahead(self, ahead: Ahead, codes: Tensor, units: Tensor) -> None:
        """Nothing: what follows may join a prompt's last units to other tokens."""

    @torch.inference_mode()
    def stream(
        self, prompt: Tensor, *, max_new: int, min_new: int, sampling: Sampling, seed: int, window: int, ahead: ReadAhead | None = None
    ) -> Iterator[Tensor]:
        decoding, request = self.asked([prompt], max_new=[max_new], min_new=[min_new], sampling=sampling, seeds=[seed], window=window)
        steps = (self.frames_said_by(step.new[0]) for step in Decoder(decoding, request)) if max_new > 0 else iter(())
        yield from after_edge(steps, edge=len(decoding.edges[0]), most=max_new)

    @abstractmethod
    def frames_said_by(self, tokens: Tensor) -> Tensor:
        """Tokens ``(n, *token_shape)`` -> units ``(T,)``, one a frame."""

    @abstractmethod
    def asked(
        self,
        prompts: Sequence[Tensor],
        *,
        max_new: Sequence[int],
        min_new: Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
    ) -> tuple[LongTokens, DecodingRequest]:
        """The engine's view of the stage, and what is asked of the engine in tokens."""


class LongTokens(_Continuation):
    """What the engine sees of a model whose tokens last several frames.

    ``edges`` are a row's units after its last settled token: a token that is cut off by the prompt's end may go on past it,
    so what stands there is drawn anew among the tokens that say the same.  Limits count frames after the prompt: no end
    is drawn before ``min_new``, and nothing but the end once ``max_new`` are there.
    """

    def __init__(self, model: SemanticLM, edges: Sequence[Sequence[int]], *, min_new: Sequence[int], max_new: Sequence[int]) -> None:
        super().__init__(model)
        self.edges = [list(edge) for edge in edges]
        self.least, self.most = list(min_new), list(max_new)

    def tables(self, seats: Seats) -> TokenTables | None:
        """What may follow depends on how long the tokens before last."""
        return None

    @property
    def max_draws(self) -> list[int]:
        """Tokens that a row draws at most, its end included; each lasts a frame or more."""
        return [most + len(edge) + 1 if most > 0 else 0 for most, edge in zip(self.most, self.edges, strict=True)]

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        logits = self.allowed(self.next_logits(hidden, known), self.edges_left(known), known)
        return draw_token(logits, known, sampling, noise, end_token=self.end_token, frames=self.frames_of(known.tokens))

    def frames_said(self, known: Known) -> list[int]:
        """Frames that each row's new tokens last, those of its edge among them."""
        frames: list[int] = known.new(self.frames_of(known.tokens)).sum(1).tolist()
        return frames

    def edges_left(self, known: Known) -> list[list[int]]:
        """What of each row's edge is still to be said."""
        return [self.edges[row][said:] for row, said in zip(known.seats.rows, self.frames_said(known), strict=True)]

    def allowed(self, logits: Tensor, edges: Sequence[list[int]], known: Known) -> Tensor:
        """``logits (B, V)``, written to, with what may not follow at minus infinity."""
        for own, row, edge, said in zip(logits, known.seats.rows, edges, self.frames_said(known), strict=True):
            beyond = said - len(self.edges[row])  # frames after the prompt
            if edge:
                allowed = torch.tensor(self.agreeing(edge), device=logits.device) + self.model.first_unit
                only = torch.full_like(own, -torch.inf)
                only[allowed] = own[allowed]
                own.copy_(only)
            elif beyond >= self.most[row]:
                own.fill_(-torch.inf)
                own[self.end_token] = 0.0
            elif beyond < self.least[row]:
                own[self.end_token] = -torch.inf
        return logits

    @abstractmethod
    def next_logits(self, hidden: Tensor, known: Known) -> Tensor:
        """``hidden (B, D)`` -> logits ``(B, V)`` of what may follow, in memory of their own."""

    @abstractmethod
    def agreeing(self, edge: list[int]) -> list[int]:
        """Tokens, counted from the first unit, that say ``edge``, a beginning of it, or more than it."""

    @abstractmethod
    def frames_of(self, tokens: Tensor) -> Tensor:
        """How many frames each of ``tokens (B, T, *token_shape)`` lasts ``(B, T)``, an end none."""


def placed(values: Tensor, starts: Tensor) -> Tensor:
    """``values (B, R)`` of runs where ``SemanticLM.tokens`` puts them: ``(B, R + 2)``, 0 at BOS, EOS and past the end."""
    batch, length = values.shape
    shifted = torch.arange(length, device=values.device) + starts.long()[:, None]
    return values.new_zeros(batch, length + 2).scatter(1, shifted, values)


def ends_of(durations: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
    """Where the tokens that last ``durations (B, R)`` frames end, and EOS: ``(B, R + 1)``, shares of rows of ``lengths (B,)`` frames."""
    return placed(durations, starts).cumsum(1)[:, 1:] / lengths[:, None].double()


def tokens_in(window: int, frames_per_token: float) -> int:
    """Tokens that usually last ``window`` frames, which is what a model was trained on."""
    return max(2, round(window / frames_per_token))


def after_edge(units: Iterator[Tensor], *, edge: int, most: int) -> Iterator[Tensor]:
    """``units (n,)`` in pieces without the first ``edge``, which the prompt has already, and no more than ``most``."""
    said = 0
    for piece in units:
        new = piece[max(0, edge - said) : max(0, edge + most - said)]
        said += len(piece)
        if len(new):
            yield new
