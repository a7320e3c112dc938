"""DelayLM without a cache, a pattern's arithmetic or a batch: coordinates one by one, the whole prefix at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from valle.decoding.sampling import RowNoise, Sampling, sample, sample_all
from valle.models.delay import FIRST_LEVEL, DelayLM
from valle.modules.transformer import Attend

CPU = torch.device("cpu")
UNKNOWN = -1


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


class DelaySide:
    """What one pass over a row knows: its codes, its units, and where its window, which counts steps, stands."""

    def __init__(self, model: DelayLM, prompt: Tensor, units: Tensor | None, *, num_frames: int, window: int) -> None:
        pattern = model.pattern
        self.model, self.units, self.window = model, units, window
        self.codes = torch.full((num_frames + pattern.num_levels + 1, pattern.num_levels), UNKNOWN)
        self.codes[: len(prompt)] = prompt
        self.step, self.start = pattern.steps_per_frame * len(prompt), 0

    def logits(self) -> Tensor:
        """``(Q, K)`` of the next step."""
        period = self.model.pattern.steps_per_frame * self.model.periods.frames
        if self.step - self.start >= self.window:
            self.start = -(-(self.step - self.window // 2) // period) * period
        return twin_logits(self.model, self.codes, self.step, units=self.units, start=self.start)

    def spoken(self, count: int) -> Tensor:
        """The last ``count`` codes of the first level."""
        return self.codes[: -(-self.step // self.model.pattern.steps_per_frame), 0][-count:]

    def add(self, drawn: Tensor) -> None:
        """Codes ``(Q,)`` of the next step, only where nothing is known."""
        for level, offset in enumerate(self.model.pattern.offsets):
            frame, rest = divmod(self.step - offset, self.model.pattern.steps_per_frame)
            if rest == 0 and frame >= 0 and self.codes[frame, level] == UNKNOWN:
                self.codes[frame, level] = drawn[level]
        self.step += 1


@torch.inference_mode()
def delay_twin(
    model: DelayLM, prompt: Tensor, *, num_frames: int, units: Tensor | None, sampling: Sampling, seed: int, window: int
) -> list[list[int]]:
    """Codes ``(num_frames, Q)`` that begin with ``prompt (T, Q)``; ``window`` counts steps.

    With guidance, for every step a pass with units and prompt, and one over the new frames alone.
    """
    noise, first = RowNoise([seed], model.codebook_size, CPU), RowNoise([seed ^ FIRST_LEVEL], model.codebook_size, CPU)
    told = DelaySide(model, prompt, units, num_frames=num_frames, window=window)
    bare = DelaySide(model, prompt[:0], None if units is None else units[:0], num_frames=num_frames - len(prompt), window=window)
    while told.step < model.pattern.num_steps(num_frames):
        logits = told.logits()
        if sampling.is_guided:
            unconditional = bare.logits()
            logits = unconditional + sampling.guidance * (logits - unconditional)
        drawn = sample_all(logits[None], sampling, noise)[0]
        if sampling.repetition_window:
            drawn[0] = sample(logits[:1], sampling, first, told.spoken(sampling.repetition_window)[None])[0]
        told.add(drawn)
        bare.add(drawn)
    return told.codes[:num_frames].tolist()
