"""An acoustic model in one file: every code of a frame from its units alone, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from valle.crops import CroppedTokens
from valle.decoding.sampling import RowNoise, Sampling, sample_all
from valle.models.acoustic.base import AcousticModel, AcousticRequest
from valle.models.config import AudioLMConfig
from valle.models.loss import LossTerm, loss_term
from valle.models.stage import ExampleSettings, Stage, code_counts, streams
from valle.models.unit_window import UnitWindow
from valle.modules.masks import valid_mask


class EchoLM(Stage):
    """Codes of all levels by the units around their frame."""

    name = "echo"
    crop_seconds = 1.0
    sampling = Sampling(temperature=0.5)

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        assert config.num_units is not None
        self.levels, self.size = config.num_quantizers, config.codebook_size
        self.window = UnitWindow(num_units=config.num_units, d_model=config.d_model, reach=config.unit_window, periods=config.periods)
        self.head = nn.Linear(config.d_model, self.levels * self.size)

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        return streams(crops, settings.config)

    def forward(self, units: Tensor, unit_lengths: Tensor, frames: int) -> Tensor:
        logits: Tensor = self.head(self.window(units, unit_lengths, frames)).unflatten(-1, (self.levels, self.size))
        return logits  # (B, T, Q, K)

    def loss(self, *, codes: Tensor, lengths: Tensor, units: Tensor, unit_lengths: Tensor) -> LossTerm:
        valid = valid_mask(lengths, codes.shape[1])[..., None].expand(codes.shape)
        return loss_term(self(units, unit_lengths, codes.shape[1]), codes, valid)

    def histograms(self, *, codes: Tensor, lengths: Tensor, **units: Tensor) -> dict[str, list[Tensor]]:
        valid = valid_mask(lengths, codes.shape[1])
        return {self.name: [code_counts(codes, valid, level=level, size=self.size) for level in range(self.levels)]}


class Echo(AcousticModel):
    name = "echo"
    stage_types = (EchoLM,)

    def __init__(self, config: AudioLMConfig, stages: Mapping[str, Any]) -> None:
        super().__init__(config, stages)
        self.stage: EchoLM = stages["echo"]

    @torch.inference_mode()
    def generate(self, request: AcousticRequest) -> list[Tensor]:
        self.refuse_too_few_units(request)
        assert request.units is not None
        rows = []
        for prompt, frames, seed, units in zip(request.prompt_codes, request.num_frames, request.seeds, request.units, strict=True):
            logits = self.stage(units[None], torch.tensor([len(units)]), frames).flatten(1, 2)
            noise = RowNoise([seed], self.config.codebook_size, units.device)
            codes = sample_all(logits, request.sampling_of(self.stage), noise).view(frames, -1)
            rows.append(torch.cat([prompt, codes[len(prompt) :]]))
        return rows
