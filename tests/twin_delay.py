"""DelayLM without a cache, a pattern's arithmetic or a batch: coordinates one by one, the whole prefix at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from valle.decoding.sampling import RowNoise, Sampling, sample, sample_all
from valle.models.delay import FIRST_LEVEL, DelayLM
from valle.modules.transformer import Attend

CPU = torch.device("cpu")


def step_inputs(model: DelayLM, codes: Tensor, step: int, *, units: Tensor | None, start: int = 0) -> Tensor:
    """Inputs ``(step - start + 1, D)`` of what predicts ``step``, in a window from step ``start``; of ``codes (T, Q)``, what is known."""
    pattern, each = model.pattern, model.pattern.steps_per_frame
    rows = []
    for place in range(start - 1, step):
        x = torch.zeros(model.embed.embedding_dim, dtype=model.embed.weight.dtype)
        for level, offset in enumerate(pattern.offsets):
            frame, rest = divmod(place - offset, each)
            known = place >= start and rest == 0 and frame >= start // each
            code = int(codes[frame, level]) if known else model.special
            x = x + model.embed.weight[level * (model.codebook_size + 1) + code]
        if model.unit_window is not None:
            assert units is not None
            frame = (place + 1) // each
            x = x + model.unit_window(units[None], torch.tensor([len(units)]), frame + 1)[0, frame]
        rows.append(x)
    return torch.stack(rows)


def twin_logits(model: DelayLM, codes: Tensor, step: int, *, units: Tensor | None, start: int = 0) -> Tensor:
    """Logits ``(Q, K)`` of ``step`` after those before it."""
    hidden = model.transformer(step_inputs(model, codes, step, units=units, start=start)[None], Attend.causally())[0, -1]
    return model.head @ hidden + model.head_bias


@torch.inference_mode()
def delay_twin(
    model: DelayLM, prompt: Tensor, *, num_frames: int, units: Tensor | None, sampling: Sampling, seed: int, window: int
) -> list[list[int]]:
    """Codes ``(num_frames, Q)`` that begin with ``prompt (T, Q)``; ``window`` counts steps."""
    pattern, each = model.pattern, model.pattern.steps_per_frame
    noise, first = RowNoise([seed], model.codebook_size, CPU), RowNoise([seed ^ FIRST_LEVEL], model.codebook_size, CPU)
    unknown = -1
    codes = torch.full((num_frames + pattern.num_levels + 1, pattern.num_levels), unknown)
    codes[: len(prompt)] = prompt
    period, start = each * model.periods.frames, 0
    for step in range(each * len(prompt), pattern.num_steps(num_frames)):
        if step - start >= window:
            start = -(-(step - window // 2) // period) * period
        logits = twin_logits(model, codes, step, units=units, start=start)
        drawn = sample_all(logits[None], sampling, noise)[0]
        if sampling.repetition_window:
            spoken = codes[: -(-step // each), 0]  # the first level of the frames before
            drawn[0] = sample(logits[:1], sampling, first, spoken[-sampling.repetition_window :][None])[0]
        for level, offset in enumerate(pattern.offsets):
            frame, rest = divmod(step - offset, each)
            if rest == 0 and frame >= 0 and codes[frame, level] == unknown:  # only where nothing is known
                codes[frame, level] = drawn[level]
    return codes[:num_frames].tolist()
