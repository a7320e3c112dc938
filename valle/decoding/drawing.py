"""What a draw may look at, what it gives, and how one token is drawn for every model alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from valle.decoding.sampling import Noise, Sampling, distribution, sample
from valle.decoding.seats import Seats


@dataclass(frozen=True)
class Known:
    """What a draw may look at beside the model's state: all tokens so far, and what each row is asked for."""

    tokens: Tensor  # (B, capacity, *token_shape) int64 from number ``first`` on; what a row's token number ``positions`` follows is there
    positions: Tensor  # (B,) numbers of the rows' next tokens
    counts: Sequence[int]  # the same on the host
    prompt_lengths: Sequence[int]
    min_new: Sequence[int] | None  # tokens before which the end is not drawn
    seats: Seats  # which rows of the request these are
    first: int = 0  # tokens before it are forgotten

    @property
    def numbers(self) -> Tensor:
        """Tokens ``(B, capacity)``, of several numbers the first."""
        return first_numbers(self.tokens)

    def recent(self, window: int, frames: Tensor | None = None) -> Tensor:
        """The last ``window`` tokens before each row's next one ``(B, window)``, -1 where there are fewer.

        With ``frames (B, capacity)`` that each token lasts, what stood in the last ``window`` frames: a token as often as it lasted.
        """
        place = torch.arange(window, device=self.tokens.device)
        index = self.positions[:, None] - (1 + self.first) - place
        tokens = torch.where(index >= 0, self.numbers.gather(1, index.clamp(min=0)), -1)
        if frames is None:
            return tokens
        lasting = torch.where(index >= 0, frames.gather(1, index.clamp(min=0)), 1)
        which = torch.searchsorted(lasting.cumsum(1), place.expand(len(tokens), -1).contiguous(), right=True)
        return tokens.gather(1, which.clamp(max=window - 1)).masked_fill(which >= window, -1)

    def new(self, values: Tensor) -> Tensor:
        """``values (B, capacity)`` of tokens, kept where a token is new to its row and 0 elsewhere."""
        place = torch.arange(self.first, self.first + values.shape[1], device=values.device)
        prompts = torch.tensor(self.prompt_lengths, device=values.device)
        return torch.where((place >= prompts[:, None]) & (place < self.positions[:, None]), values, 0)

    def too_early(self) -> Tensor | None:
        """Rows ``(B,)`` bool whose end may not be drawn yet; None where there are none."""
        if self.min_new is None:
            return None
        early = [known - prompt < least for known, prompt, least in zip(self.counts, self.prompt_lengths, self.min_new, strict=True)]
        return torch.tensor(early, device=self.tokens.device) if any(early) else None


@dataclass(frozen=True)
class Drawn:
    """The tokens of one step: ``tokens (B, n, *token_shape)`` int64, of which each row keeps the first ``counts`` (all, if None)."""

    tokens: Tensor
    counts: Sequence[int] | None = None
    fed: int = 0  # of these, how many have been fed already, the same of all rows


def draw_token(
    logits: Tensor,
    known: Known,
    sampling: Sampling,
    noise: Noise,
    *,
    end_token: int | None,
    frames: Tensor | None = None,
    tokens_a_frame: int = 1,
) -> Drawn:
    """One token a row from ``logits (B, V)``, which are written to: the end not before its time, repetitions drawn again.

    Repetitions are counted in frames: a token lasts as many as ``frames (B, capacity)`` says, or one frame has ``tokens_a_frame``.
    """
    recent = _rules(logits, known, sampling, end_token=end_token, frames=frames, tokens_a_frame=tokens_a_frame)
    return Drawn(sample(logits, sampling, noise.of(logits.shape[-1]), recent)[:, None])


def token_distribution(logits: Tensor, known: Known, sampling: Sampling, *, end_token: int | None, tokens_a_frame: int = 1) -> Tensor:
    """Probabilities ``(B, V)`` with which ``draw_token`` draws from ``logits (B, V)``, which are written to."""
    recent = _rules(logits, known, sampling, end_token=end_token, frames=None, tokens_a_frame=tokens_a_frame)
    return distribution(logits, sampling, recent)


def _rules(
    logits: Tensor, known: Known, sampling: Sampling, *, end_token: int | None, frames: Tensor | None, tokens_a_frame: int
) -> Tensor | None:
    """Take the end out of ``logits`` before its time -> the tokens that repetition is judged by."""
    early = known.too_early() if end_token is not None else None
    if early is not None:
        logits[early, end_token] = -torch.inf
    window = sampling.repetition_window * tokens_a_frame
    return known.recent(window, frames) if window else None


def first_numbers(tokens: Tensor) -> Tensor:
    """``tokens (B, T, *token_shape)`` -> ``(B, T)``, of several numbers the first."""
    return tokens if tokens.ndim == 2 else tokens.flatten(2)[..., 0]
