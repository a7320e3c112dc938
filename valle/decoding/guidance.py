"""Classifier-free guidance (Ho and Salimans 2022, equation 6): rows with their conditions and the same rows without, in one batch.

A request of B rows becomes one of 2 B, the unconditional ones behind: no units, no prompt, no voice.  Each row keeps a cache and
windows of its own, so that neither the engine nor a batch mate knows of it.  In a stage:

    prompts, units, seeds = beside_none(prompts), beside_none(units), [*seeds, *seeds]  # before decoding
    logits = guided(head(hidden), sampling)  # in draw, before anything is masked or drawn; for every level of a frame
    return agreed(draw_token(logits, ...), sampling)
    new = new[: len(new) // 2]  # after it

A stage of which a step holds several levels takes ``of_told`` of what it draws at each, before it puts in what a row knows of its own.
A stage that fills all frames at once puts ``unknown_alone(codes, known)`` beside its codes, and takes
``guide(c, in_place(u, known), sampling.guidance)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from valle.decoding.drawing import Drawn
from valle.decoding.sampling import Sampling


def guide(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Logits ``u + w (c - u)``, of any shape."""
    return unconditional + weight * (conditional - unconditional)


def beside_none(rows: Sequence[Tensor]) -> list[Tensor]:
    """Rows ``(n_b, ...)``, then as many of length 0."""
    return [*rows, *(row[:0] for row in rows)]


def guided(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits ``(2 B, ...)``, the conditional rows first -> those that both halves draw from; unguided ones stay as they are."""
    if not sampling.is_guided:
        return logits
    conditional, unconditional = logits.chunk(2)
    return guide(conditional, unconditional, sampling.guidance).repeat(2, *[1] * (logits.ndim - 1))


def of_told(tokens: Tensor, sampling: Sampling) -> Tensor:
    """``tokens (2 B, ...)`` of the conditional rows, for both halves: repetitions are judged by tokens of which the others know fewer."""
    return torch.cat([tokens[: len(tokens) // 2]] * 2) if sampling.is_guided else tokens


def agreed(drawn: Drawn, sampling: Sampling) -> Drawn:
    """What the conditional rows drew, for both halves."""
    if not sampling.is_guided:
        return drawn
    counts = None if drawn.counts is None else [*drawn.counts[: len(drawn.tokens) // 2]] * 2
    return Drawn(of_told(drawn.tokens, sampling), counts)


def unknown_alone(frames: Tensor, known: Tensor) -> Tensor:
    """``frames (B, T, ...)`` of each row that are not ``known (B, T)``, put together at its beginning; what is behind means nothing."""
    return _picked(frames, _unknown_first(known))


def in_place(frames: Tensor, known: Tensor) -> Tensor:
    """The inverse: ``frames (B, T, ...)`` where they were; those that are ``known (B, T)`` mean nothing."""
    return _picked(frames, _unknown_first(known).argsort(1))


def _unknown_first(known: Tensor) -> Tensor:
    return known.long().argsort(dim=1, stable=True)


def _picked(frames: Tensor, places: Tensor) -> Tensor:
    return frames[torch.arange(len(frames), device=frames.device)[:, None], places]
