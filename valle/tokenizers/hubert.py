"""Units of a speech encoder that was trained here (HuBERT, Hsu et al. 2021, and the wav2vec family): see ``clustered_units.py``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from valle.errors import UserError
from valle.tokenizers.clustered_units import ClusteredUnits, UnitsConfig
from valle.tokenizers.speech_encoder import SpeechEncoder, SpeechEncoderConfig

NEAR_SECONDS = 0.2  # after a unit; what comes later changes fewer than one in a thousand of valle-hubert's units (see the test)


@dataclass(frozen=True)
class HubertConfig(UnitsConfig):
    """Sizes; ``encoder.num_layers`` is the layer whose states are clustered.

    With ``voice_whitened``, states are clustered in directions of their own, in which voices differ as little in one as in another.
    """

    name: str = "hubert"
    voice_whitened: bool = False
    encoder: SpeechEncoderConfig = field(default_factory=SpeechEncoderConfig)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HubertConfig:
        return cls(**{**values, "encoder": SpeechEncoderConfig(**values["encoder"])})


class HubertTokenizer(ClusteredUnits):
    """50 Hz, or 25 Hz with two frames a unit."""

    directions: Tensor  # (D, D), of voice-whitened units alone

    def __init__(self, config: HubertConfig) -> None:
        encoder = SpeechEncoder(config.encoder)
        super().__init__(
            config, sample_rate=config.encoder.sample_rate, frame_hop=encoder.hop_length, dim=config.encoder.d_model,
            reach=encoder.receptive_field(config.encoder.num_layers),
        )  # fmt: skip
        self.settings = config
        self.encoder = encoder
        self.encoder.transformer.final_norm = None  # the states are taken before it
        if config.voice_whitened:
            self.register_buffer("directions", torch.eye(config.encoder.d_model))

    def config(self) -> dict[str, Any]:
        settings = asdict(self.settings)
        if settings["encoder"]["bottleneck"] is None:  # units from before there was any keep their identity
            del settings["encoder"]["bottleneck"]
        if not settings["voice_whitened"]:
            del settings["voice_whitened"]
        return {"type": "hubert", **settings}

    def standardise(self, states: Tensor) -> Tensor:
        standardised = super().standardise(states)
        return standardised @ self.directions if self.settings.voice_whitened else standardised

    def kept_of_prompt(self, num_samples: int) -> int:
        """The look-ahead of all blocks together is a bound that what is heard hardly reaches: most of a unit's own is much nearer."""
        if not self._is_bounded:
            return super().kept_of_prompt(num_samples)
        heard = max(0, num_samples - round(NEAR_SECONDS * self.sample_rate))
        return max(self.settled(num_samples), heard // self.hop_length)

    def states(self, pieces: Tensor, sizes: Tensor, heard: Tensor) -> Tensor:
        return self.encoder(pieces, sizes, layer=self.settings.encoder.num_layers)


def hubert_from_encoder(encoder: SpeechEncoder, config: HubertConfig, *, layer: int) -> HubertTokenizer:
    """A tokenizer, not yet fitted, of ``encoder``'s first ``layer`` blocks, in numbers that half precision holds (so its file is small)."""
    if not 1 <= layer <= encoder.config.num_layers:
        raise UserError(f"expected a layer within 1..{encoder.config.num_layers}, found {layer}")
    tokenizer = HubertTokenizer(replace(config, encoder=replace(encoder.config, num_layers=layer, dropout=0.0)))
    weights = {name: tensor.detach().half().float() for name, tensor in encoder.state_dict().items()}
    wanted = tokenizer.encoder.state_dict()
    tokenizer.encoder.load_state_dict({name: weights[name] for name in wanted})
    return tokenizer.eval().requires_grad_(False)


def build_hubert(config: dict[str, Any]) -> HubertTokenizer:
    """From plain values, as the registry keeps them."""
    return HubertTokenizer(HubertConfig.from_dict(config))
