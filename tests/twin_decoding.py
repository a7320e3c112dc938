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
    model: CoarseLM,
    tokens: Tensor,
    start: int,
    *,
    units: Tensor | None,
    num_frames: int,
    prompt: int,
    window: int,
    voice: Tensor | None = None,
) -> Tensor:
    """Logits ``(codes of all levels,)`` of the token after ``tokens[start:]``, as training computes them for the crop that begins there.

    ``prompt`` counts the window's tokens that see each other freely, ``window`` those that a window holds; ``voice (T_v, Q)`` are
    the codes of a pooled voice.
    """
    levels = model.num_coarse
    within = tokens[start:]
    frames = len(within) // levels + 1
    codes = torch.zeros(frames * levels, dtype=torch.int64)
    codes[: len(within)] = within % model.codebook_size
    streams: dict[str, Any] = {"codes": codes.view(1, frames, levels), "lengths": torch.tensor([frames])}
    if voice is not None:
        streams.update(voice=voice[None], voice_lengths=torch.tensor([len(voice)]))
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
        return _aligned_logits(model, within, start, units, num_frames, voice)
    with Heard(model.head) as heard:
        model.loss(**streams)
    return heard[0][0, len(within)]


def _aligned_logits(model: CoarseLM, within: Tensor, start: int, units: Tensor | None, num_frames: int, voice: Tensor | None) -> Tensor:
    """The same where a crop's units would end at its edge, though the row's go on."""
    assert units is not None and model.unit_window is not None
    around = model.unit_window(units[None], torch.tensor([len(units)]), num_frames)[0]
    positions = torch.arange(start, start + len(within) + 1)
    inputs = model.embed(torch.cat([torch.tensor([model.start]), within])) + model.level_embed(positions % model.num_coarse)
    if voice is not None:
        assert model.pooled_voice is not None
        inputs = inputs + model.pooled_voice(voice[None], torch.tensor([len(voice)]))
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


class CoarseSide:
    """What one pass over a row knows: its tokens, its units, its voice, and where its window stands."""

    def __init__(
        self, model: CoarseLM, prompt: Tensor, units: Tensor | None, voice: Tensor | None, *, num_frames: int, window: int
    ) -> None:
        self.model, self.units, self.voice, self.num_frames = model, units, voice, num_frames
        self.tokens, self.start, self.freely = model.flatten(prompt), 0, prompt.shape[0] * model.num_coarse
        self.window, self.step = window * model.num_coarse, model.num_coarse * model.periods.frames

    def logits(self) -> Tensor:
        if len(self.tokens) - self.start >= self.window:
            self.start = -(-(len(self.tokens) - self.window // 2) // self.step) * self.step
            self.freely = len(self.tokens) - self.start
        told = {"units": self.units, "num_frames": self.num_frames, "prompt": self.freely, "window": self.window, "voice": self.voice}
        return coarse_logits(self.model, self.tokens, self.start, **told)

    def add(self, token: int) -> None:
        self.tokens = torch.cat([self.tokens, torch.tensor([token])])


@torch.inference_mode()
def guided_coarse_twin(
    model: CoarseLM, prompt: Tensor, *, num_frames: int, units: Tensor | None, sampling: Sampling, seed: int, window: int
) -> list[list[int]]:
    """Codes ``(num_frames, Q')``: for every token a pass with units, prompt and voice, and one over the new tokens alone."""
    levels, noise = model.num_coarse, RowNoise([seed], model.head.out_features, CPU)
    sizes = {"num_frames": num_frames, "window": window}
    voices = (prompt, prompt[:0]) if model.pooled_voice is not None else (None, None)
    told = CoarseSide(model, prompt, units, voices[0], **sizes)
    bare = CoarseSide(model, prompt[:0], None if units is None else units[:0], voices[1], **sizes)
    while len(told.tokens) < num_frames * levels:
        conditional, unconditional = told.logits(), bare.logits()
        logits = unconditional + sampling.guidance * (conditional - unconditional)
        others = torch.arange(len(logits)) // model.codebook_size != len(told.tokens) % levels
        token = draw(logits.masked_fill(others, -torch.inf), sampling, noise, told.tokens, tokens_a_frame=levels)
        told.add(token)
        bare.add(token)
    return (told.tokens % model.codebook_size).view(-1, levels).tolist()
