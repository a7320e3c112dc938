"""Frames of speech for a model that reads no units: the features that a tokenizer clusters, or a released encoder's states."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from valle.audio import Waveform, resample
from valle.errors import UserError
from valle.measures.level import speech_gain_db, with_gain
from valle.modules.masks import valid_mask
from valle.tokenizers.base import SemanticTokenizer
from valle.tokenizers.clustered_units import ClusteredUnits
from valle.tokenizers.mfcc import MfccKMeans
from valle.tokenizers.pretrained_units import ENCODERS
from valle.tokenizers.registry import BUNDLED_SEMANTIC, CONFIG_FILE, load_semantic, load_unfitted

FrameTokenizer = MfccKMeans | ClusteredUnits


def load_frames(name: str, *, layer: int) -> FrameTokenizer:
    """What gives frames: ``bundled``, a unit tokenizer by name or folder, or ``layer`` of a released encoder.

    Released encoders go by name or folder: ``hubert-base=FOLDER``, ``whisper-base``.
    """
    label, _, path = name.partition("=")
    if label in ENCODERS and not (path and (Path(path) / CONFIG_FILE).is_file()):
        return load_unfitted(name, layer=layer, num_units=2)
    return expect_frames(load_semantic(BUNDLED_SEMANTIC if name == "bundled" else name))


def expect_frames(tokenizer: SemanticTokenizer) -> FrameTokenizer:
    """``tokenizer``, if it has features to give."""
    if not isinstance(tokenizer, FrameTokenizer):
        raise UserError(f"expected a tokenizer whose units are clusters of features, found {tokenizer.name}; try {BUNDLED_SEMANTIC}")
    return tokenizer


def frame_ms(tokenizer: FrameTokenizer) -> int:
    """Milliseconds that a frame lasts; a whole number, or it is refused."""
    milliseconds, rest = divmod(1000 * tokenizer.hop_length, tokenizer.sample_rate)
    if rest:
        raise UserError(f"expected frames of whole milliseconds, found {1000 * tokenizer.hop_length / tokenizer.sample_rate:g} ms")
    return milliseconds


def heard(wav: Waveform, rate: int, sample_rate: int) -> Waveform:
    """Audio ``(T,)`` as a recogniser hears it: at one level of speech, at ``sample_rate``."""
    return resample(with_gain(wav, speech_gain_db(wav, rate)), rate, sample_rate)


@torch.no_grad()
def frames_of(tokenizer: FrameTokenizer, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """``wav (B, T)``, ``lengths (B,)`` samples -> standardised features ``(B, F, D)`` fp32, 0 past a row's end, and ``frames (B,)``."""
    frames = torch.div(lengths + tokenizer.hop_length - 1, tokenizer.hop_length, rounding_mode="floor")
    with torch.autocast(wav.device.type, enabled=False):
        states = tokenizer.features(wav, lengths)
    return states * valid_mask(frames, states.shape[1])[..., None], frames
