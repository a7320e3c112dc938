"""What the bundled weights and the trainer give, as plain numbers: computed here, compared by ``test_golden.py``, written by ``write.py``.

Every value is a function without arguments, by the name under which ``values/<name>.json`` keeps it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_training import tiny_loop, tiny_manifests, tiny_options
from torch import Tensor, nn

from valle.audio import Waveform, read_audio
from valle.decoding.sampling import Sampling
from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.tokenizers.registry import load_tokenizer, tokenizer_to_state

ASSETS = Path(__file__).parents[2] / "valle" / "assets"
SPEECH = ASSETS / "samples" / "1998-15444-0000.flac"  # LibriSpeech, CC BY 4.0: see the README beside it
TOKENIZERS = ("valle-convnext", "valle-16khz", "mfcc-kmeans", "valle-hubert", "valle-whisper")
PROMPT_SECONDS, NEW_SECONDS, SEED = 2.0, 1.5, 7
SHOWN = 12  # logits of a position that are kept, beside their log-sum


@cache
def speech(seconds: float) -> tuple[Waveform, int]:
    """The beginning of one recording of LibriSpeech, Hz."""
    wav, rate = read_audio(SPEECH)
    return wav[: round(seconds * rate)], rate


@cache
def bundled() -> Pipeline:
    return Pipeline.from_pretrained()


def logits() -> dict[str, Any]:
    """Of every stage of the bundled model for fixed tokens: a few logits of three positions, and each position's log-sum."""
    model = bundled().model
    config, generator = model.config, np.random.default_rng(0)  # whose streams are the same everywhere
    frames = 30 * config.frames_per_period
    units = torch.from_numpy(generator.integers(config.num_units, size=(1, 30 * config.units_per_period)))
    codes = torch.from_numpy(generator.integers(config.codebook_size, size=(1, frames, config.num_quantizers)))
    unit_lengths, lengths = torch.tensor([units.shape[1]]), torch.tensor([frames])
    streams = {"codes": codes, "lengths": lengths, "units": units, "unit_lengths": unit_lengths}
    whole = torch.tensor([True])
    found: dict[str, Any] = {}
    with torch.inference_mode():
        for stage, batch in {
            "semantic": {"units": units, "lengths": unit_lengths, "starts": whole, "ends": whole},
            "coarse": streams,
        }.items():
            with outputs_of(model.get_submodule(f"{stage}.head")) as outputs:
                model.loss({stage: batch})
            found[stage] = shown(outputs[0])
        for level in range(config.num_coarse, config.num_quantizers):
            with outputs_of(model.get_submodule("fine")) as outputs:
                model.loss({"fine": {**streams, "levels": torch.tensor([level]), "prompt_lengths": torch.tensor([20])}})
            found[f"fine_{level}"] = shown(outputs[0])
    return found


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """What ``module`` returns while the context lasts."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.detach()))
    try:
        yield outputs
    finally:
        handle.remove()


def shown(output: Tensor) -> list[dict[str, Any]]:
    """Of logits ``(1, T, V)``: the first ones of the first, a middle and the last position."""
    rows = output[0].float()
    return [
        {"position": place, "log_sum": float(rows[place].logsumexp(-1)), "logits": rows[place, :SHOWN].tolist()}
        for place in (0, len(rows) // 2, len(rows) - 1)
    ]


def tokens() -> dict[str, Any]:
    """Of three seconds of speech by every bundled tokenizer: ``(T,)`` units or ``(T, Q)`` codes."""
    wav, rate = speech(3.0)
    found = {}
    for name in TOKENIZERS:
        tokenizer = load_tokenizer(name).eval()
        assert tokenizer.sample_rate == rate
        with torch.inference_mode():
            rows, lengths = tokenizer.encode(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))
        found[name] = rows[0, : int(lengths[0])].tolist()
    return found


def continuation() -> dict[str, Any]:
    """Units and codes after two seconds of speech, at a seed: the likeliest ones, and drawn ones."""
    wav, rate = speech(4.0)
    greedy = Sampling(temperature=0.0)
    sampling = {"greedy": dict.fromkeys(("semantic", "coarse", "fine"), greedy), "sampled": {}}
    settings = {name: ContinueSettings(sampling=how, level="none") for name, how in sampling.items()}  # as it was before there were levels
    found = {}
    for name, how in settings.items():
        [result] = bundled().continue_audio(
            wav, rate, seed=SEED, settings=how, prompt_seconds=PROMPT_SECONDS, max_seconds=NEW_SECONDS, min_seconds=NEW_SECONDS
        )
        assert result.units is not None
        found[name] = {"units": result.units.tolist(), "codes": result.codes.tolist()}
    return found


def continuation_at_level() -> dict[str, Any]:
    """The same, drawn as a user has it who sets nothing: the prompt brought to the level of speech."""
    wav, rate = speech(4.0)
    [result] = bundled().continue_audio(
        0.1 * wav, rate, seed=SEED, prompt_seconds=PROMPT_SECONDS, max_seconds=NEW_SECONDS, min_seconds=NEW_SECONDS
    )
    assert result.units is not None
    return {"units": result.units.tolist(), "codes": result.codes.tolist()}


def three_steps() -> dict[str, Any]:
    """Weights of a tiny model after three steps of the trainer: mean, size and first number of every tensor, in float64."""
    with tempfile.TemporaryDirectory() as folder:
        manifests = tiny_manifests(Path(folder) / "tokens")
        options = tiny_options(manifests, Path(folder) / "exp", max_steps=3, num_epochs=1, valid_interval=1000, save_every_n=0)
        loop = tiny_loop(options)
        loop.run()
        assert loop.progress.step == 3
        return {
            name: [float(weight.double().mean()), float(weight.double().norm()), float(weight.flatten()[0])]
            for name, weight in sorted(loop.task.model.state_dict().items())
        }


def names() -> dict[str, Any]:
    """Names and shapes in the bundled model, names in the states of its tokenizers, and the keys of a checkpoint."""
    model = bundled().model
    with tempfile.TemporaryDirectory() as folder:
        options = tiny_options(tiny_manifests(Path(folder) / "tokens"), Path(folder) / "exp", max_steps=1, num_epochs=1)
        loop = tiny_loop(options)
        loop.run()
        state = torch.load(Path(folder) / "exp" / "checkpoint-1.pt", weights_only=True)
    return {
        "bundled model": {name: list(weight.shape) for name, weight in sorted(model.state_dict().items())},
        "tokenizers": {name: sorted(tokenizer_to_state(load_tokenizer(name))["tensors"]) for name in TOKENIZERS},
        "checkpoint": sorted(state),
        "checkpoint model": sorted(state["model"]),
        "checkpoint counters": sorted(state["counters"]),
    }


VALUES: dict[str, Callable[[], dict[str, Any]]] = {
    "logits": logits,
    "tokens": tokens,
    "continuation": continuation,
    "continuation_at_level": continuation_at_level,
    "three_steps": three_steps,
    "names": names,
}


def largest_difference(left: Any, right: Any) -> float:
    """Of two nests of numbers, relative to 1 or the number; infinite where they are built otherwise."""
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return inf
        return max((largest_difference(left[key], right[key]) for key in left), default=0.0)
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            return inf
        return max((largest_difference(*pair) for pair in zip(left, right, strict=True)), default=0.0)
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return abs(left - right) / max(1.0, abs(right))
    return 0.0 if left == right else inf
