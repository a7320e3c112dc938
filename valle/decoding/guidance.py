"""Classifier-free guidance (Ho and Salimans 2022, equation 6): rows with their conditions and the same rows without, in one batch.

A request of B rows becomes one of 2 B, the unconditional ones behind: no units, no prompt, no voice.  Each row keeps a cache and
windows of its own, so that neither the engine nor a batch mate knows of it.  In a stage:

    prompts, units, seeds = beside_none(prompts), beside_none(units), [*seeds, *seeds]  # before decoding
    logits = guided(head(hidden), sampling)  # in draw, before anything is masked or drawn; for every level of a frame
    return agreed(draw_token(logits, ...), sampling)
    new = new[: len(new) // 2]  # after it

A stage that fills all frames at once puts ``without_prompt(codes, prompt_lengths)`` beside its codes, and takes
``guide(c, in_place(u, prompt_lengths), sampling.guidance)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from valle.decoding.engine import Drawn
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


def agreed(drawn: Drawn, sampling: Sampling) -> Drawn:
    """What the conditional rows drew, for both halves: repetitions are judged by tokens of which the others know fewer."""
    if not sampling.is_guided:
        return drawn
    half = len(drawn.tokens) // 2
    counts = None if drawn.counts is None else [*drawn.counts[:half]] * 2
    return Drawn(torch.cat([drawn.tokens[:half]] * 2), counts)


def without_prompt(frames: Tensor, prompt_lengths: Tensor) -> Tensor:
    """``frames (B, T, ...)`` of each row from the end of its prompt on, of the same size: what is behind means nothing."""
    return _moved(frames, prompt_lengths)


def in_place(frames: Tensor, prompt_lengths: Tensor) -> Tensor:
    """The inverse: ``frames (B, T, ...)`` behind each row's prompt, where they were; those of the prompt mean nothing."""
    return _moved(frames, -prompt_lengths)


def _moved(frames: Tensor, by: Tensor) -> Tensor:
    length = frames.shape[1]
    place = (torch.arange(length, device=frames.device) + by[:, None]).clamp(0, length - 1)  # (B, T)
    return frames[torch.arange(len(frames), device=frames.device)[:, None], place]
