"""What a model in training sounds like: continuations of dev cuts' beginnings, from their stored tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from valle.data.dataset import Tokens
from valle.inference.continuing import Continuer, TokenPrompt
from valle.tokenizers.base import AcousticTokenizer

NUM_SAMPLES = 3
PROMPT_SECONDS, NEW_SECONDS, LEAST_SECONDS = 3.0, 3.0, 1.0  # no end is drawn before LEAST_SECONDS of new audio


@torch.inference_mode()
def dev_continuations(continuer: Continuer, examples: Sequence[Tokens], codec: AcousticTokenizer) -> list[tuple[str, Tensor, int]]:
    """``(tag, wav (T,), sample rate)`` of each example: as the codec renders it, and as the model continues it.

    Three seconds of prompt (less of shorter cuts), three of continuation; the same seeds at every call, so that what
    changes from one validation to the next is the model.
    """
    sounds = []
    for index, (example, codes) in enumerate(zip(examples, _continue(continuer, examples), strict=True)):
        own = torch.from_numpy(example.codes[: len(codes)])
        for name, stream in (("original", own), ("continuation", codes)):
            wav = codec.decode(stream[None], torch.tensor([len(stream)]))[0].float()
            sounds.append((f"valid/{name}_{index + 1}", wav, codec.sample_rate))
    return sounds


def _continue(continuer: Continuer, examples: Sequence[Tokens]) -> list[Tensor]:
    """Codes ``(T, Q)`` of prompt and continuation, on the CPU."""
    timeline, device = continuer.timeline, next(continuer.model.parameters()).device
    known = [min(timeline.periods_for(PROMPT_SECONDS), example.num_periods) for example in examples]
    prompts = [
        TokenPrompt(
            codes=torch.from_numpy(example.codes[: periods * timeline.frames_per_period]).to(device),
            units=torch.from_numpy(example.units[: periods * timeline.units_per_period]).to(device), seed=index,
        )
        for index, (example, periods) in enumerate(zip(examples, known, strict=True))
    ]  # fmt: skip
    longest, shortest = (
        [periods + timeline.periods_for(seconds) for periods in known] for seconds in (NEW_SECONDS, LEAST_SECONDS)
    )
    units = continuer.units(prompts, shortest=shortest, longest=longest, sampling={})
    frames = [periods * timeline.frames_per_period for periods in longest]
    return [row.cpu() for row in continuer.codes(prompts, units=units, num_frames=frames, sampling={})]
