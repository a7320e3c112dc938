"""Processor time of ten seconds of codes by every acoustic model, at the demo's size, along given units.

Weights and units are random: the time does not depend on what they say.  One thread, one row after a prompt of three seconds, in windows
that hold everything; by turns, so that a busy machine slows all models.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.acoustic_measures import MODELS
from valle.decoding.steps import TorchSteps
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest
from valle.modules.conformer import Conformer
from valle.modules.transformer import Transformer

FRAMES_A_SECOND, PROMPT_SECONDS = 50, 3.0
CODES, UNITS = 256, 300
DEMO = {"d_model": 256, "nhead": 4, "num_layers": 3, "dim_feedforward": 832}
NO_SIZES = ("fine_crops", "fine_lr", "num_decoder_layers", "soundstorm_crops", "base_lr")  # of MODELS, what training alone knows


def rows(*, seconds: float = 10.0, rounds: int = 3, shape: Mapping[str, int] = DEMO) -> list[dict[str, Any]]:
    """A row for every acoustic model: evaluations of a whole stack one after another, and median seconds."""
    models = {name: model_of(name, shape) for name in MODELS}
    wanted = request(seconds)
    passes = {name: passes_of(model, wanted) for name, model in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, model in models.items():
            started = time.process_time()
            model.acoustic.generate(wanted)
            if number:  # the first round loads the kernels
                taken[name].append(time.process_time() - started)
    return [
        {
            "name": name, "passes": passes[name], "seconds_for_10s": round(10 / seconds * statistics.median(found), 3),
            "rtf": round(statistics.median(found) / seconds, 4),
        }
        for name, found in taken.items()
    ]  # fmt: skip


def model_of(name: str, shape: Mapping[str, int]) -> AudioLM:
    """An untrained model of that kind; stages take their steps as ``auto`` would in a long request."""
    torch.manual_seed(0)
    own = {key: value for key, value in MODELS[name].items() if key not in NO_SIZES and not (key == "delay_num_layers" and shape != DEMO)}
    return AudioLM(
        **{**shape, "num_quantizers": 8, "codebook_size": CODES, "num_units": UNITS, "dropout": 0.0, "acoustic_model": name, **own}
    ).eval()


def request(seconds: float) -> AcousticRequest:
    """Codes of ``seconds`` after the prompt's."""
    generator, prompt = torch.Generator().manual_seed(0), round(PROMPT_SECONDS * FRAMES_A_SECOND)
    frames = prompt + round(seconds * FRAMES_A_SECOND)
    codes, units = torch.randint(CODES, (prompt, 8), generator=generator), torch.randint(UNITS, (frames,), generator=generator)
    windows = dict.fromkeys(("coarse", "fine", "soundstorm", "flat-fine", "delay", "rq"), frames)
    return AcousticRequest(prompt_codes=[codes], num_frames=[frames], seeds=[0], units=[units], windows=windows)


def passes_of(model: AudioLM, wanted: AcousticRequest) -> int:
    """Evaluations of a stage's stack, of whole rows and of single steps."""
    stacks = [part for part in model.modules() if isinstance(part, Transformer)]
    for stack in stacks:
        stack.stepping.engine = "torch"  # the native one takes many steps in one call
    with counted() as count:
        model.acoustic.generate(wanted)
    for stack in stacks:
        stack.stepping.engine = "auto"
    return len(count)


@contextmanager
def counted() -> Iterator[list[None]]:
    """A list that grows by one with every evaluation."""
    count: list[None] = []
    with ExitStack() as patches:
        for owner, name in ((Transformer, "forward"), (Conformer, "forward"), (TorchSteps, "step")):
            original = getattr(owner, name)

            def counting(self: Any, *given: Any, original: Any = original, **named: Any) -> Any:
                count.append(None)
                return original(self, *given, **named)

            patches.enter_context(patch.object(owner, name, counting))
        yield count
