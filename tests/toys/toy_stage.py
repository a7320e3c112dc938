"""A stage in one file: the next unit from the one before it and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from valle.crops import CroppedTokens, pad
from valle.decoding.sampling import RowNoise, Sampling, sample
from valle.models.config import AudioLMConfig
from valle.models.loss import LossTerm, loss_term, small_head
from valle.models.stage import ExampleSettings, SemanticStage
from valle.modules.masks import valid_mask


class BigramLM(SemanticStage):
    """Units by their predecessors; it never ends."""

    name = "bigram"
    crop_seconds = 2.0
    sampling = Sampling(temperature=0.7)

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        assert config.num_units is not None
        self.embed = nn.Embedding(config.num_units, config.d_model)
        self.head = small_head(config.d_model, config.num_units)

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        units, lengths = pad([crop.units for crop in crops])
        return {"units": units, "lengths": lengths}

    def loss(self, *, units: Tensor, lengths: Tensor) -> LossTerm:
        return loss_term(self.head(self.embed(units[:, :-1])), units[:, 1:], valid_mask(lengths - 1, units.shape[1] - 1))

    def histograms(self, *, units: Tensor, lengths: Tensor) -> dict[str, list[Tensor]]:
        targets = units[:, 1:][valid_mask(lengths - 1, units.shape[1] - 1)]
        return {self.name: [targets.bincount(minlength=self.head.out_features).double()]}

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Tensor],
        *,
        max_new: Sequence[int],
        min_new: Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
        at_once: int | None = None,
    ) -> list[Tensor]:
        rows = []
        for prompt, most, seed in zip(prompts, max_new, seeds, strict=True):
            row, noise = prompt, RowNoise([seed], self.head.out_features, prompt.device)
            for _ in range(most):
                row = torch.cat([row, sample(self.head(self.embed(row[-1:])), sampling, noise)])
            rows.append(row[len(prompt) :])
        return rows
