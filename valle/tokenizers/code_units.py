"""Units that are the quantizer's own codes, as vq-wav2vec's were published (Baevski et al. 2020, 4): no transformer, no k-means.

A frame has a code in each group.  A combination of codes is a unit: those that occur most on the audio that was looked at are kept,
and a frame of another combination has the unit whose vector is nearest to its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from valle.errors import UserError
from valle.modules.product_quantizer import Bottleneck
from valle.tokenizers.clustered_units import ClusteredUnits, UnitsConfig
from valle.tokenizers.front_ends import FRAME_HOP
from valle.tokenizers.kmeans_fit import Frames, KMeansFit
from valle.tokenizers.speech_encoder import SpeechEncoder, SpeechEncoderConfig, front_end_of, whole_frames


@dataclass(frozen=True)
class CodeUnitsConfig(UnitsConfig):
    """Sizes; of ``encoder`` the front end and the bottleneck are used."""

    name: str = "vq-wav2vec-codes"
    encoder: SpeechEncoderConfig = field(default_factory=SpeechEncoderConfig)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CodeUnitsConfig:
        return cls(**{**values, "encoder": SpeechEncoderConfig(**values["encoder"])})


class CodeUnits(ClusteredUnits):
    """50 Hz; ``centroids (K, D)`` are the vectors of the combinations that are units."""

    def __init__(self, config: CodeUnitsConfig) -> None:
        if config.encoder.bottleneck is None or config.frames_per_unit != 1:
            raise UserError("expected an encoder with a quantizer, and a code a frame, for units that are codes; name another layer")
        front_end = front_end_of(config.encoder)
        super().__init__(
            config, sample_rate=config.encoder.sample_rate, frame_hop=FRAME_HOP, dim=config.encoder.bottleneck.out_dim,
            reach=(front_end.left, front_end.right),
        )  # fmt: skip
        self.settings, self.front_end = config, front_end
        self.bottleneck = Bottleneck(config.encoder.bottleneck, front_end.size)

    def config(self) -> dict[str, Any]:
        return {"type": "code-units", **asdict(self.settings)}

    def states(self, pieces: Tensor, sizes: Tensor, heard: Tensor) -> Tensor:
        return self.bottleneck.vectors(self.front_end(whole_frames(pieces, sizes)))


def codes_from_encoder(encoder: SpeechEncoder, config: CodeUnitsConfig) -> CodeUnits:
    """A tokenizer of ``encoder``'s front end and quantizer, not yet fitted, in numbers that half precision holds."""
    tokenizer = CodeUnits(replace(config, encoder=replace(encoder.config, dropout=0.0)))
    weights = {name: tensor.detach().half().float() for name, tensor in encoder.state_dict().items()}
    own = {**tokenizer.state_dict(), **{name: tensor for name, tensor in weights.items() if name.startswith(("front_end.", "bottleneck."))}}
    tokenizer.load_state_dict(own)
    return tokenizer.eval().requires_grad_(False)


def with_codes_in_use(tokenizer: CodeUnits, frames: Frames) -> CodeUnits:
    """The tokenizer whose units are the combinations most frequent among ``frames (N, D)``, vectors of codes; at most as many as it has."""
    vectors, counts = np.unique(frames, axis=0, return_counts=True)
    kept = vectors[np.argsort(-counts, kind="stable")[: tokenizer.num_units]]
    if len(kept) < 2:
        raise UserError("expected 2 or more combinations of codes in use, found one; train longer, or give another --exp-dir")
    fitted = CodeUnits(replace(tokenizer.settings, num_units=len(kept)))
    fitted.load_state_dict({**tokenizer.state_dict(), "centroids": fitted.centroids})
    dim = frames.shape[1]
    fitted.take_clusters(KMeansFit(np.zeros(dim, np.float32), np.ones(dim, np.float32), kept))
    return fitted.eval().requires_grad_(False)


def build_code_units(config: dict[str, Any]) -> CodeUnits:
    """From plain values, as the registry keeps them."""
    return CodeUnits(CodeUnitsConfig.from_dict(config))
