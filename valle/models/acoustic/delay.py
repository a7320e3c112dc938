"""The acoustic model ``delay``: every level by one transformer, the levels of a frame in steps that a pattern shifts (MusicGen)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from valle.models.acoustic.base import AcousticModel, AcousticRequest, LiveRequest
from valle.models.config import AudioLMConfig
from valle.models.delay import DelayLM
from valle.models.stage import Stage


class Delay(AcousticModel):
    """``DelayLM`` alone."""

    name = "delay"
    stage_types = (DelayLM,)

    def __init__(self, config: AudioLMConfig, stages: Mapping[str, Stage]) -> None:
        super().__init__(config, stages)
        stage = stages[DelayLM.name]
        assert isinstance(stage, DelayLM)
        self.stage = stage

    @torch.inference_mode()
    def generate(self, request: AcousticRequest) -> list[Tensor]:
        self.refuse_guidance(request)
        self.refuse_too_few_units(request)
        return self.stage.generate(
            [prompt[:, : self.config.num_quantizers] for prompt in request.prompt_codes],
            num_frames=request.num_frames,
            units=request.units,
            sampling=request.sampling_of(self.stage),
            seeds=request.seeds,
            window=request.window_of(self.stage),
            at_once=request.at_once,
        )

    def stream(self, request: LiveRequest) -> Iterator[Tensor]:
        return self.stage.stream(
            request.prompt_codes[:, : self.config.num_quantizers],
            num_frames=request.num_frames,
            units=request.units,
            sampling=request.sampling_of(self.stage),
            seed=request.seed,
            window=request.window_of(self.stage),
        )
