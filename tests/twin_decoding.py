"""Decoding without a cache, one row at a time, by the code that computes the losses: what the engine must equal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from valle.decoding.sampling import RowNoise, Sampling, sample
from valle.models.coarse import CoarseLM
from valle.models.semantic import SemanticLM
from valle.modules.transformer import Attend

CPU = torch.device("cpu")


class Heard:
    """Everything that a layer gives while the context lasts."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.outputs = layer, []

    def __enter__(self) -> list[Tensor]:
        self.handle = self.layer.register_forward_hook(lambda _module, _inputs, output: self.outputs.append(output.detach().clone()))
        return self.outputs

    def __exit__(self, *_error: Any) -> None:
        self.handle.remove()


def semantic_logits(model: SemanticLM, units: Tensor, *, starts: bool) -> Tensor:
    """Logits ``(V,)`` of what follows ``units (n,)``, as training computes them."""
    following = torch.cat([units, units.new_zeros(1)])[None]  # its last unit is only a target
    with Heard(model.head) as heard:
        model.loss(units=following, lengths=torch.tensor([len(units) + 1]), starts=torch.tensor([starts]), ends=torch.tensor([False]))
    return heard[0][0, len(units) + starts - 1]


@torch.inference_mode()
def semantic_twin(
    model: SemanticLM, prompt: Tensor, *, max_new: int, sampling: Sampling, seed: int, window: int, min_new: int = 0
) -> list[int]:
    """New units after ``prompt (n,)``."""
    noise = RowNoise([seed], model.vocabulary.size, CPU)
    units, start = prompt, 0
    for count in range(max_new):
        if len(units) - start >= window:
            start = len(units) - window // 2
        logits = semantic_logits(model, units[start:], starts=start == 0)
        logits[model.bos] = -torch.inf
        if count < min_new:
            logits[model.eos] = -torch.inf
        token = draw(logits, sampling, noise, units + model.first_unit)
        if token == model.eos:
            break
        units = torch.cat([units, torch.tensor([token - model.first_unit])])
    return units[len(prompt) :].tolist()


def draw(logits: Tensor, sampling: Sampling, noise: RowNoise, past: Tensor, *, tokens_a_frame: int = 1) -> int:
    """One token of ``logits (V,)`` after the tokens ``past (n,)``."""
    recent = past[-sampling.repetition_window * tokens_a_frame :][None] if sampling.repetition_window else None
    return int(sample(logits[None], sampling, noise, recent))


def coarse_logits(
    model: CoarseLM, tokens: Tensor, start: int, *, units: Tensor | None, num_frames: int, prompt: int, window: int
) -> Tensor:
    """Logits ``(codes of all levels,)`` of the token after ``tokens[start:]``, as training computes them for the crop that begins there.

    ``prompt`` counts the window's tokens that see each other freely, ``window`` those that a window holds.
    """
    levels = model.num_coarse
    within = tokens[start:]
    frames = len(within) // levels + 1
    codes = torch.zeros(frames * levels, dtype=torch.int64)
    codes[: len(within)] = within % model.codebook_size
    streams: dict[str, Any] = {"codes": codes.view(1, frames, levels), "lengths": torch.tensor([frames])}
    if model.conditioning is None:
        assert prompt % levels == 0
        streams["prompt_lengths"] = torch.tensor([prompt // levels])
    elif model.conditioning == "prefix":
        assert units is not None
        first = start // levels // model.periods.frames * model.periods.units
        ours = units[first : first + -(-window // levels // model.periods.frames) * model.periods.units]
        streams.update(units=ours[None], unit_lengths=torch.tensor([len(ours)]))
    elif start == 0:
        assert units is not None
        streams.update(units=units[None], unit_lengths=torch.tensor([len(units)]))
    else:
        return _aligned_logits(model, within, start, units, num_frames)
    with Heard(model.head) as heard:
        model.loss(**streams)
    return heard[0][0, len(within)]


def _aligned_logits(model: CoarseLM, within: Tensor, start: int, units: Tensor | None, num_frames: int) -> Tensor:
    """The same where a crop's units would end at its edge, though the row's go on."""
    assert units is not None and model.unit_window is not None
    around = model.unit_window(units[None], torch.tensor([len(units)]), num_frames)[0]
    positions = torch.arange(start, start + len(within) + 1)
    inputs = model.embed(torch.cat([torch.tensor([model.start]), within])) + model.level_embed(positions % model.num_coarse)
    return model.head(model.transformer((inputs + around[positions // model.num_coarse])[None], Attend.causally()))[0, -1]


@torch.inference_mode()
def coarse_twin(
    model: CoarseLM, prompt: Tensor, *, num_frames: int, units: Tensor | None, sampling: Sampling, seed: int, window: int
) -> list[list[int]]:
    """Codes ``(num_frames, Q')`` that begin with ``prompt (T, Q')``."""
    levels, noise = model.num_coarse, RowNoise([seed], model.head.out_features, CPU)
    tokens, start = model.flatten(prompt), 0
    freely, step = len(tokens), levels * model.periods.frames
    while len(tokens) < num_frames * levels:
        if len(tokens) - start >= window * levels:
            start = -(-(len(tokens) - window * levels // 2) // step) * step
            freely = len(tokens) - start
        logits = coarse_logits(model, tokens, start, units=units, num_frames=num_frames, prompt=freely, window=window * levels)
        level = len(tokens) % levels
        others = torch.arange(len(logits)) // model.codebook_size != level
        token = draw(logits.masked_fill(others, -torch.inf), sampling, noise, tokens, tokens_a_frame=levels)
        tokens = torch.cat([tokens, torch.tensor([token])])
    return (tokens % model.codebook_size).view(-1, levels).tolist()
