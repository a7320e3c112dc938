"""Multi-token prediction: heads draft tokens, one pass of the stage over all of them verifies which are kept.

A step draws one token as ever, drafts some more from the same hidden state, feeds all of them at once, and keeps the longest
beginning that the stage agrees to (blockwise parallel decoding, Stern et al. 2018; Medusa, Cai et al. 2024).  What agreeing means is
the rule:

- ``exact``: a token's noise depends on its number alone, so a draft is kept while it is what the stage draws there, the likeliest of
  p / noise.  The output is that of plain decoding at the same seed.  Drafts are drawn from q with the same noise, which
  makes them agree more often than any others drawn without p (Daliri et al. 2025, "Coupling without communication").
- ``ratio``: a draft of q is kept with probability min(1, p / q); the first that is not is replaced by a draw from the positive part
  of p - q (Leviathan et al. 2023, 2.3; Chen et al. 2023, algorithm 2).  p and q are what is drawn from, after temperature, top-k,
  top-p and repetition.
- ``unverified``: all are kept.  Not the model's distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from valle.decoding.drawing import draw_token, token_distribution
from valle.decoding.engine import Autoregressor, DecodedStep, Decoder, DecodingRequest, decode, evaluating
from valle.decoding.sampling import Drafts, Noise
from valle.errors import UserError

DRAFTED, ACCEPTED, RESIDUAL = 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7, 0xAEF17502108EF2D9  # salts of the noise of ``ratio``


class Drafter(Autoregressor, Protocol):
    """What drafting asks of a model beside the rest; its tokens are plain numbers."""

    @property
    def num_drafts(self) -> int:
        """Heads that it has."""
        ...

    @property
    def tokens_a_frame(self) -> int:
        """By which repetition is counted."""
        ...

    def scores(self, hidden: Tensor) -> Tensor:
        """``hidden (..., D)`` -> logits ``(..., V)`` of the next token."""
        ...

    def draft_scores(self, head: int, state: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """``state (B, D)`` of head number ``head`` and the tokens ``before (B,)`` -> the next head's state, logits ``(B, V)``."""
        ...

    def possible(self, logits: Tensor, positions: Tensor) -> Tensor:
        """``logits (B, V)`` with what cannot stand at ``positions (B,)`` at minus infinity."""
        ...


class DraftingDecoder(Decoder):
    """A decoder whose steps give a row as many tokens as are kept of its drafts, and one more.

    No draft reaches past a window's end, where the stage would see another context, nor past a row's limit.
    """

    model: Drafter

    def __init__(self, model: Drafter, request: DecodingRequest) -> None:
        super().__init__(model, request)
        drafts = request.sampling.drafts
        assert drafts is not None
        if drafts.tokens > model.num_drafts:
            have = f"has {model.num_drafts} draft heads" if model.num_drafts else "has no draft heads"
            raise UserError(f"{drafts.tokens} drafts a step need as many heads, and this stage {have}; lower or leave out --draft-tokens")
        self.drafts: Drafts = drafts
        self.replaced = torch.full((self.batch,), -1, dtype=torch.int64, device=self.device)  # next tokens that are drawn already
        self.row_steps = 0  # steps of rows that had not ended
        self.given = 0  # new tokens in all, ends left out

    @property
    def tokens_a_step(self) -> float:
        """New tokens of a row in one step, on average."""
        return self.given / max(self.row_steps, 1)

    def __iter__(self) -> Iterator[DecodedStep]:
        hidden = self._prefill(range(self.batch))
        while not self.is_done:
            first = torch.where(self.replaced >= 0, self.replaced, self._draw(self.model.scores(hidden), 0))
            self.replaced = torch.full_like(self.replaced, -1)
            self.row_steps += self.batch - sum(self.ended)
            before, still = list(self.stop), sum(self.ended)
            rooms = self._rooms(first)
            number = max(rooms)
            tokens, laws = self._drafted(hidden, first, number)  # (B, 1 + n)
            fed = self._step(self._inputs(tokens)) if number else None  # (B, 1 + n, D)
            counts = [1] * self.batch if fed is None else [1 + kept for kept in self._verified(fed, tokens, laws, rooms)]
            self._write(tokens, counts)
            self._count(tokens, counts)
            self.given += sum(self.stop) - sum(before)
            if fed is not None:
                self.position += self._on_device(counts)
                hidden = self._keep(fed, counts)
            if sum(self.ended) > still:
                self._level_ended()
            yield self._decoded(before)
            if not self.is_done:
                hidden = self._advance(tokens, counts) if fed is None else self._renew(hidden)

    def _renew(self, hidden: Tensor) -> Tensor:
        before, hidden = self.seating.seats.rows, super()._renew(hidden)
        for place, (old, new) in enumerate(zip(before, self.seating.seats.rows, strict=True)):
            if old != new:
                self.replaced[place] = -1
        return hidden

    def _draw(self, logits: Tensor, ahead: int, noise: Noise | None = None) -> Tensor:
        """The token ``(B,)`` that stands ``ahead`` of the rows' next ones, by ``logits (B, V)``."""
        known, model = self._seen(ahead), self.model
        logits = model.possible(logits, known.positions)
        noise = self._noise(ahead) if noise is None else noise
        drawn = draw_token(
            logits, known, self.request.sampling, noise, end_token=model.end_token, tokens_a_frame=model.tokens_a_frame
        )  # fmt: skip
        return drawn.tokens[:, 0]

    def _law(self, logits: Tensor, ahead: int) -> Tensor:
        """What is drawn there with which probability ``(B, V)``."""
        known, model = self._seen(ahead), self.model
        logits = model.possible(logits, known.positions)
        return token_distribution(
            logits, known, self.request.sampling, end_token=model.end_token, tokens_a_frame=model.tokens_a_frame
        )  # fmt: skip

    def _rooms(self, first: Tensor) -> list[int]:
        """How many tokens each row could take beside its ``first (B,)``: none that the row's end, limit or window would take back."""
        ends, rooms = self._ends(first[:, None]), []
        for row, known in enumerate(self.known):
            window = self.request.window - 1 - (known + 1 - self.start[row])
            room = min(self.drafts.tokens, self.limit[row] - known - 1, window)
            rooms.append(0 if self.ended[row] or ends[row][0] else max(0, room))
        return rooms

    def _drafted(self, hidden: Tensor, first: Tensor, number: int) -> tuple[Tensor, list[Tensor]]:
        """``first`` and ``number`` drafts ``(B, 1 + number)``; for the rule ``ratio`` with each draft's law ``(B, V)``.

        A draft knows those before it, as a token does: they are written where they would stand.
        """
        self._make_room(1 + number)
        tokens, laws, state = [first], list[Tensor](), hidden
        for head in range(number):
            self.tokens[self.rows, self.position + (head - self.first)] = tokens[-1]
            state, logits = self.model.draft_scores(head, state, tokens[-1])
            if self.drafts.rule == "ratio":
                laws.append(self._law(logits, head + 1))
                tokens.append((laws[-1] / self._salted(head + 1, logits.shape[-1], DRAFTED)).argmax(-1))
            else:
                tokens.append(self._draw(logits, head + 1))
        self.tokens[self.rows, self.position + (number - self.first)] = tokens[-1]
        return torch.stack(tokens, 1), laws

    def _salted(self, ahead: int, size: int, salt: int) -> Tensor:
        [noise] = self._noise(ahead).of(size, salt=salt).of_token(1)
        return noise

    def _verified(self, fed: Tensor, drafted: Tensor, laws: list[Tensor], rooms: list[int]) -> list[int]:
        """Drafts that each row keeps, of ``drafted (B, 1 + n)`` whose hidden states are ``fed (B, 1 + n, D)``."""
        if self.drafts.rule == "unverified":
            return rooms
        logits = self.model.scores(fed[:, :-1])  # (B, n, V): place j speaks of draft j
        if self.drafts.rule == "exact":
            kept = [self._draw(logits[:, place], 1 + place) == drafted[:, 1 + place] for place in range(logits.shape[1])]
            return _beginnings(torch.stack(kept, 1), rooms)
        true = torch.stack([self._law(logits[:, place], 1 + place) for place in range(logits.shape[1])], 1)
        drawn_from = torch.stack(laws, 1)  # (B, n, V)
        uniform = torch.cat([self._salted(1 + place, 1, ACCEPTED) for place in range(logits.shape[1])], 1).neg().exp()  # (B, n)
        lengths = _beginnings(accepted(true, drawn_from, drafted[:, 1:], uniform), rooms)
        self.replaced = self._replacements(true, drawn_from, lengths, rooms)
        return lengths

    def _replacements(self, true: Tensor, drawn_from: Tensor, lengths: list[int], rooms: list[int]) -> Tensor:
        """What stands in place of each row's first draft that was not kept ``(B,)``, -1 in rows that kept all they had room for."""
        number = true.shape[1]
        places = [known - prompt + 1 + kept for known, prompt, kept in zip(self.known, self.prompt_lengths, lengths, strict=True)]
        [noise] = self.noise.at(places).of(true.shape[-1], salt=RESIDUAL).of_token(1)
        rejected = torch.tensor([min(length, number - 1) for length in lengths], device=self.device)
        tokens = (residual(true[self.rows, rejected], drawn_from[self.rows, rejected]) / noise).argmax(-1)
        has_room = [length < room for length, room in zip(lengths, rooms, strict=True)]
        return torch.where(torch.tensor(has_room, device=self.device), tokens, -1)


def accepted(true: Tensor, drawn_from: Tensor, drafted: Tensor, uniform: Tensor) -> Tensor:
    """Which of ``drafted (B, n)``, drawn from ``drawn_from (B, n, V)``, stay as draws from ``true (B, n, V)``: bool ``(B, n)``."""
    p, q = (law.gather(2, drafted[..., None])[..., 0] for law in (true, drawn_from))
    return uniform * q < p


def residual(true: Tensor, drawn_from: Tensor) -> Tensor:
    """What a draft that did not stay is replaced by a draw of, ``(..., V)``, not normalised."""
    left = (true - drawn_from).clamp(min=0.0)
    return torch.where(left.sum(-1, keepdim=True) > 0, left, true)  # all of it rounded away: the laws are the same


def _beginnings(kept: Tensor, rooms: list[int]) -> list[int]:
    """How many of ``kept (B, n)`` bool hold from the first on, at most ``rooms``."""
    lengths: list[int] = kept.long().cumprod(1).sum(1).tolist()
    return [min(length, room) for length, room in zip(lengths, rooms, strict=True)]


@torch.inference_mode()
def decode_drafting(model: Drafter, request: DecodingRequest) -> list[Tensor]:
    """As ``decode``, several tokens a step where the request's sampling asks for drafts."""
    if request.sampling.drafts is None:
        return decode(model, request)
    if not request.prompts or max(request.max_new) <= 0:
        return [prompt[:0] for prompt in request.prompts]
    with evaluating(model.transformer):
        return DraftingDecoder(model, request).run()


def decoder_of(model: Drafter, request: DecodingRequest) -> Decoder:
    """What takes a request's steps one by one: several tokens a step where its sampling asks for drafts.

    Whoever iterates is under ``torch.inference_mode``, and the model in evaluation mode.
    """
    return Decoder(model, request) if request.sampling.drafts is None else DraftingDecoder(model, request)
