"""Released models of random weights that run in a moment, on tokenizers of random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from valle.models import AudioLM
from valle.models.checkpoint import plain
from valle.models.released import Released
from valle.timeline import Timeline
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans
from valle.tokenizers.registry import tokenizer_to_state

RATE = 16000
CODEBOOKS, CODES, UNITS = 3, 16, 12


def tiny_codec(*, sample_rate: int = RATE) -> ConvNeXtCodec:
    """50 Hz at 16 kHz, 75 Hz at 24 kHz."""
    torch.manual_seed(0)
    sizes = {"dim": 8, "num_blocks": 1, "vq_dim": 4, "num_codebooks": CODEBOOKS, "codebook_size": CODES}
    return ConvNeXtCodec(ConvNeXtCodecConfig(name="tiny-codec", sample_rate=sample_rate, **sizes)).eval()


def tiny_kmeans(*, hop_length: int = 640) -> MfccKMeans:
    torch.manual_seed(1)
    kmeans = MfccKMeans(MfccConfig(name="tiny-units", num_units=UNITS, hop_length=hop_length)).eval()
    kmeans.centroids.normal_()
    return kmeans


def tiny_released(
    *, units: bool = True, conditioning: str = "aligned", seconds: float = 2.0, rates: str = "25/50", num_coarse: int = 1, **fields: Any
) -> Released:
    """Model, tokenizers and timeline; ``seconds`` is the trained length of every stage, ``rates`` are units' and codes'.

    ``fields`` are further ones of the model.
    """
    codec = tiny_codec(sample_rate=RATE if rates == "25/50" else 24000)
    kmeans = tiny_kmeans(hop_length=640 if rates == "25/50" else 320) if units else None
    timeline = Timeline(codes=codec.identity.grid, units=kmeans.identity.grid if kmeans else None)
    model = AudioLM(
        d_model=32, nhead=2, num_layers=2, num_quantizers=CODEBOOKS, codebook_size=CODES, num_units=UNITS if units else None,
        num_coarse=num_coarse, coarse_conditioning=conditioning,
        units_per_period=timeline.units_per_period, frames_per_period=timeline.frames_per_period, **fields,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():  # larger than a fresh model's, so that what is drawn depends on what came before
        parameter.data.normal_(std=0.3, generator=generator)
    lengths = dict.fromkeys(("semantic", "coarse", "fine", *model.stages()), seconds)
    return Released(model=model.eval(), timeline=timeline, acoustic=codec, semantic=kmeans, trained_seconds=lengths)


def lean_to_end(released: Released, bias: float) -> Released:
    """Adds ``bias`` to the end's logit: -1e9 so that speech never ends, 1e9 so that it ends as soon as it may."""
    assert released.model.semantic is not None
    head = released.model.semantic.head
    if head.bias is None:
        head.bias = torch.nn.Parameter(torch.zeros(head.out_features))
    head.bias.data[released.model.semantic.eos] += bias
    return released


def checkpoint_state(released: Released) -> dict[str, Any]:
    """What the trainer writes, without the optimizer."""
    return {
        "model": released.model.state_dict(), **plain(vars(released.model.config)),
        "timeline": released.timeline.to_dict(),
        "tokenizers": {
            "acoustic": tokenizer_to_state(released.acoustic),
            "semantic": tokenizer_to_state(released.semantic) if released.semantic else None,
        },
        **{f"{stage}_seconds": seconds for stage, seconds in released.trained_seconds.items()},
    }  # fmt: skip


def recording(seconds: float, *, seed: int = 0) -> np.ndarray:
    """Something between a voice and noise, 16-bit samples as float32 ``(T,)`` at 16 kHz."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(time))
    wav = 0.2 * np.sin(2 * np.pi * (150 + 40 * seed) * time) * (1 + np.sin(9 * time)) + 0.05 * noise
    return (np.round(np.clip(wav, -1, 1) * 32767) / 32768).astype(np.float32)
