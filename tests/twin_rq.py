"""RqLM without a cache or a batch: at every step and level the whole window, as a crop that begins where the window does."""

from __future__ import annotations

import torch
from torch import Tensor

from valle.decoding.sampling import RowNoise, Sampling, sample
from valle.models.rq import LEVEL, RqLM
from valle.modules.transformer import Attend

CPU = torch.device("cpu")
UNKNOWN = -1


class RqSide:
    """What one pass over a row knows: its codes, its units, and where its window, which counts steps, stands."""

    def __init__(self, model: RqLM, prompt: Tensor, units: Tensor | None, *, num_frames: int, window: int) -> None:
        self.model, self.num_frames, self.window = model, num_frames, window
        self.around = None
        if model.unit_window is not None:
            assert units is not None
            self.around = model.unit_window(units[None], torch.tensor([len(units)]), num_frames + model.delay.steps)
        self.codes = torch.full((num_frames, model.num_levels), UNKNOWN)
        self.codes[: len(prompt)] = prompt
        self.step, self.start = len(prompt), 0
        # By level, for repetitions: the prompt's codes and missing ones among them.
        self.drawn = [[self._code(step, level) for step in range(len(prompt))] for level in range(model.num_levels)]

    def logits(self, level: int) -> Tensor:
        """``(1, V)`` of the next step at ``level``, whose lower levels are known."""
        stage, period = self.model, self.model.periods.frames
        if self.step - self.start >= self.window:
            self.start = -(-(self.step - self.window // 2) // period) * period
        frames = torch.tensor([self.num_frames - self.start])
        steps = stage.delay.apply(self.codes[None, self.start :], frames).clamp(min=0)  # what is not known decides nothing
        inputs = stage.inputs(stage.embed(steps[:, :-1]), None if self.around is None else self.around[:, self.start :])
        hidden = stage.transformer(inputs, Attend.causally())[0, self.step - self.start][None]
        if level == 0 and stage.head is not None:
            return stage.head(hidden)
        return stage.depth(hidden, steps[0, self.step - self.start][None, :-1])[level - (stage.head is not None)]

    def add(self, level: int, code: int) -> None:
        """Of the next step, only where nothing is known."""
        frame = self._frame(self.step, level)
        if 0 <= frame < self.num_frames and self.codes[frame, level] == UNKNOWN:
            self.codes[frame, level] = code
        self.drawn[level].append(self._code(self.step, level))

    def _frame(self, step: int, level: int) -> int:
        return step - (self.model.delay.steps if level else 0)

    def _code(self, step: int, level: int) -> int:
        frame = self._frame(step, level)
        return int(self.codes[frame, level]) if 0 <= frame < self.num_frames else self.model.codebook_size


@torch.inference_mode()
def rq_twin(model: RqLM, prompt: Tensor, *, num_frames: int, units: Tensor | None, sampling: Sampling, seed: int, window: int) -> Tensor:
    """Codes ``(num_frames, Q)`` that begin with ``prompt (T, Q)``; ``window`` counts frames.

    With guidance, for every step and level a pass with units and prompt, and one over the new frames alone.
    """
    if num_frames == len(prompt):
        return prompt
    noise = [RowNoise([seed ^ level * LEVEL], model.codebook_size, CPU) for level in range(model.num_levels)]
    steps = model.periods.window(window) + model.delay.steps
    told = RqSide(model, prompt, units, num_frames=num_frames, window=steps)
    bare = RqSide(model, prompt[:0], None if units is None else units[:0], num_frames=num_frames - len(prompt), window=steps)
    while told.step < num_frames + model.delay.steps:
        for level in range(model.num_levels):
            logits = told.logits(level)
            if sampling.is_guided:
                unconditional = bare.logits(level)
                logits = unconditional + sampling.guidance * (logits - unconditional)
            past = torch.tensor(told.drawn[level][-sampling.repetition_window :])[None] if sampling.repetition_window else None
            code = int(sample(logits, sampling, noise[level], past))  # noise is used up for what is given, too
            told.add(level, code)
            bare.add(level, code)
        told.step += 1
        bare.step += 1
    return told.codes
