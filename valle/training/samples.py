"""What a model in training sounds like: continuations of dev cuts' beginnings, from their stored tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from valle.data.dataset import Tokens, read_tokens
from valle.data.loader import keep_durations
from valle.inference.pipeline import ContinueSettings
from valle.models.ar_nar import AcousticRequest
from valle.seeds import stage_seed
from valle.tokenizers.registry import expect_acoustic

if TYPE_CHECKING:
    from valle.training.audio_lm_task import AudioLMTask

NUM_SAMPLES = 3
PROMPT_SECONDS, NEW_SECONDS, LEAST_SECONDS = 3.0, 3.0, 1.0  # no end is drawn before LEAST_SECONDS of new audio


@torch.inference_mode()
def dev_continuations(task: AudioLMTask, *, count: int = NUM_SAMPLES) -> list[tuple[str, Tensor, int]]:
    """``(tag, wav (T,), sample rate)`` of the first ``count`` dev cuts: as the codec renders them, and as the model continues them.

    Three seconds of prompt (less of shorter cuts), three of continuation; the same seeds at every call, so that what
    changes from one validation to the next is the model.
    """
    cuts = islice(keep_durations(task.manifests.cuts("dev"), task.sampler), count)
    examples = [read_tokens(cut, task.manifests, task.config.num_quantizers) for cut in cuts]
    assert task.tokenizers["acoustic"] is not None  # manifests always name a codec
    codec = expect_acoustic(task.tokenizers["acoustic"])
    sounds = []
    for index, (example, codes) in enumerate(zip(examples, _continue(task, examples), strict=True)):
        own = torch.from_numpy(example.codes[: len(codes)])
        for name, stream in (("original", own), ("continuation", codes)):
            wav = codec.decode(stream[None], torch.tensor([len(stream)]))[0].float()
            sounds.append((f"valid/{name}_{index + 1}", wav, codec.sample_rate))
    return sounds


def _continue(task: AudioLMTask, examples: Sequence[Tokens]) -> list[Tensor]:
    """Codes ``(T, Q)`` of prompt and continuation, on the CPU."""
    timeline, options, settings = task.manifests.timeline, task.options, ContinueSettings()
    device = next(task.model.parameters()).device
    prompts = [min(timeline.periods_for(PROMPT_SECONDS), example.num_periods) for example in examples]
    periods = [prompt + timeline.periods_for(NEW_SECONDS) for prompt in prompts]
    units = None
    if task.model.semantic is not None:
        units = _continue_units(task, examples, prompts, device)
        periods = [len(row) // timeline.units_per_period for row in units]
    rows = task.model.acoustic.generate(
        AcousticRequest(
            prompt_codes=[
                torch.from_numpy(example.codes[: prompt * timeline.frames_per_period]).to(device)
                for example, prompt in zip(examples, prompts, strict=True)
            ],
            num_frames=[count * timeline.frames_per_period for count in periods],
            seeds=[stage_seed(index, 1) for index in range(len(examples))],
            units=units,
            coarse_sampling=settings.coarse,
            fine_sampling=settings.fine,
            coarse_window=_window(task, options.coarse_seconds) * timeline.frames_per_period,
            fine_window=_window(task, options.fine_seconds) * timeline.frames_per_period,
        )
    )
    return [row.cpu() for row in rows]


def _continue_units(task: AudioLMTask, examples: Sequence[Tokens], prompts: Sequence[int], device: torch.device) -> list[Tensor]:
    """Units ``(T_u,)`` of prompt and continuation, whole periods."""
    timeline, semantic = task.manifests.timeline, task.model.semantic
    assert semantic is not None
    each = timeline.units_per_period
    own = [torch.from_numpy(example.units[: prompt * each]).to(device) for example, prompt in zip(examples, prompts, strict=True)]
    new = semantic.generate(
        own,
        max_new=[timeline.periods_for(NEW_SECONDS) * each] * len(own),
        min_new=[timeline.periods_for(LEAST_SECONDS) * each] * len(own),
        sampling=ContinueSettings().semantic,
        seeds=[stage_seed(index, 0) for index in range(len(own))],
        window=_window(task, task.options.semantic_seconds) * each,
    )
    rows = [torch.cat([prompt, rest]) for prompt, rest in zip(own, new, strict=True)]
    return [row[: len(row) // each * each] for row in rows]


def _window(task: AudioLMTask, seconds: float) -> int:
    """Whole periods of the longest crop that a stage sees."""
    return max(4, task.manifests.timeline.periods_for(seconds))
