"""A model as SALMon's own script asks for one (Maimon, Roth and Adi 2024, https://github.com/slp-rl/salmon).

In ``baselines/inference.py`` of that repository, ``InferenceModelFactory.get_model`` gets two lines:

    if config["model_type"] == "valle":
        return SalmonModel.from_config(config)

and the configuration is ``{"model_type": "valle", "model": "released/folder", "mean_nll": false}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from valle.audio import resample
from valle.errors import UserError
from valle.evaluation.judged_model import judged_model
from valle.evaluation.score import score_recordings, scored_stages
from valle.inference.pipeline import Pipeline

SALMON_RATE = 16_000  # Hz, of its recordings


class SalmonModel:
    """``log_likelihood`` of recordings under all stages that give one, summed or by the token."""

    def __init__(self, pipeline: Pipeline, *, mean: bool = False, sample_rate: int = SALMON_RATE, name: str = "valle") -> None:
        self.pipeline, self.mean, self.sample_rate, self.name = pipeline, mean, sample_rate, name
        self.stages = scored_stages(pipeline)
        if not self.stages:
            raise UserError("expected a model with a stage that predicts one token after another, found none; name another model")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SalmonModel:
        """Of SALMon's configuration: ``model`` is a released folder, the bundled model without; ``mean_nll`` as for its own models."""
        name = config.get("model")
        pipeline, source = judged_model(None if name is None else Path(name), None)
        return cls(pipeline, mean=bool(config.get("mean_nll", False)), name=str(source))

    @torch.inference_mode()
    def log_likelihood(self, wavs: Sequence[Tensor]) -> Tensor:
        """``wavs``: recordings ``(1, T)`` or ``(T,)`` -> ``(B,)`` nats, each as if it were scored alone."""
        recordings = [wav.detach().cpu().float().reshape(-1).numpy() for wav in wavs]
        heard = [resample(wav, self.sample_rate, self.pipeline.sample_rate) for wav in recordings]
        totals = []
        for likelihoods in score_recordings(self.pipeline, heard, stages=self.stages):
            total = sum(likelihood.sum for likelihood in likelihoods)
            totals.append(total / sum(len(likelihood.tokens) for likelihood in likelihoods) if self.mean else total)
        return torch.tensor(totals, dtype=torch.float64, device=self.pipeline.device)

    def to(self, device: torch.device | str) -> SalmonModel:
        self.pipeline.to(device)
        return self

    def __str__(self) -> str:
        return self.name
