"""The acoustic model ``rq``: every frame's codes one after another, frame by frame (Moshi, Defossez et al. 2024; CSM, Sesame 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from valle.models.acoustic.base import AcousticModel, AcousticRequest, LiveRequest
from valle.models.config import AudioLMConfig
from valle.models.rq import RqLM
from valle.models.stage import Stage


class Rq(AcousticModel):
    """``RqLM`` alone."""

    name = "rq"
    stage_types = (RqLM,)

    def __init__(self, config: AudioLMConfig, stages: Mapping[str, Stage]) -> None:
        super().__init__(config, stages)
        stage = stages[RqLM.name]
        assert isinstance(stage, RqLM)
        self.stage = stage

    def generate(self, request: AcousticRequest) -> list[Tensor]:
        self.refuse_guidance(request)
        self.refuse_too_few_units(request)
        return self.stage.generate(
            request.prompt_codes, num_frames=request.num_frames, units=request.units,
            sampling=request.sampling_of(self.stage), seeds=request.seeds, window=request.window_of(self.stage), at_once=request.at_once,
        )  # fmt: skip

    def stream(self, request: LiveRequest) -> Iterator[Tensor]:
        return self.stage.stream(
            request.prompt_codes, num_frames=request.num_frames, units=request.units,
            sampling=request.sampling_of(self.stage), seed=request.seed, window=request.window_of(self.stage),
        )  # fmt: skip
