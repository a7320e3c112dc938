"""FineLM: how it sounds, finely; non-autoregressive, one level a pass (VALL-E, Wang et al. 2023, 4.2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from valle.crops import CroppedTokens
from valle.decoding.engine import evaluating
from valle.decoding.sampling import RowNoise, Sampling, sample_all
from valle.models.code_geometry import embeddings_like, heads_like
from valle.models.config import AudioLMConfig
from valle.models.loss import LossTerm, loss_term
from valle.models.stage import ExampleSettings, Stage, code_counts, streams
from valle.models.unit_window import UnitWindow
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend, Transformer


class FineLM(Stage):
    """Level q of every frame from all lower levels, both ways in time, beside a prompt of which all levels are known.

    Units are summed in too (``fine_units``), which the paper does not do.
    """

    name = "fine"
    crop_seconds = 3.0
    sampling = Sampling(temperature=0.6)  # AudioLM 4.1

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        self.num_coarse, self.num_levels, self.codebook_size = config.num_coarse, config.num_quantizers, config.codebook_size
        self.prompted = config.prefix_mode == 1
        fine_levels = self.num_levels - self.num_coarse
        self.embed = nn.Embedding(self.num_levels * self.codebook_size, config.d_model)
        nn.init.normal_(self.embed.weight, std=self.num_levels**-0.5)
        self.role_embed = nn.Embedding(2, config.d_model)  # target, prompt
        self.unit_window = None
        if config.num_units is not None and config.fine_units:
            self.unit_window = UnitWindow(
                num_units=config.num_units, d_model=config.d_model, reach=config.unit_window, periods=config.periods
            )
        self.transformer = Transformer(config.transformer(config.fine_num_layers, num_levels=fine_levels))
        # One parameter for all levels: whichever levels a batch draws, every parameter has a gradient.
        self.head = nn.Parameter(torch.randn(fine_levels, self.codebook_size, config.d_model) * 0.02 * config.d_model**-0.5)
        self.head_bias = nn.Parameter(torch.zeros(fine_levels, self.codebook_size))

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: tables of codes that keep the distances of the codec's ``codebooks (Q, K, D)``."""
        dim = self.head.shape[-1]
        self.embed.weight.copy_(embeddings_like(codebooks, dim)[: self.num_levels].flatten(0, 1))
        self.head.copy_(heads_like(codebooks, dim)[self.num_coarse : self.num_levels])

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        """A random level and, with ``prefix_mode`` 1, a random prompt of up to two thirds, of each example."""
        config, batch = settings.config, streams(crops, settings.config)
        fine_levels = config.num_quantizers - config.num_coarse
        levels = [config.num_coarse + int(crop.chance("level") * fine_levels) for crop in crops]
        lengths = batch["lengths"].tolist() if config.prefix_mode == 1 else [0] * len(crops)
        prompts = [int(crop.chance("prompt") * 2 / 3 * length) for crop, length in zip(crops, lengths, strict=True)]
        return {**batch, "levels": torch.tensor(levels), "prompt_lengths": torch.tensor(prompts)}

    def validation_terms(self, *, levels: Tensor, **tensors: Tensor) -> dict[str, LossTerm]:
        """``fine_1``, ``fine_2``, ...: every level of every example, none drawn."""
        return {
            f"{self.name}_{level}": self.loss(levels=torch.full_like(levels, level), **tensors)
            for level in range(self.num_coarse, self.num_levels)
        }

    def histograms(self, *, codes: Tensor, lengths: Tensor, prompt_lengths: Tensor, **others: Tensor) -> dict[str, list[Tensor]]:
        valid = valid_mask(lengths, codes.shape[1]) & ~valid_mask(prompt_lengths, codes.shape[1])
        levels = range(self.num_coarse, self.num_levels)
        return {f"{self.name}_{level}": [code_counts(codes, valid, level=level, size=self.codebook_size)] for level in levels}

    def loss(
        self,
        *,
        codes: Tensor,
        lengths: Tensor,
        prompt_lengths: Tensor,
        levels: Tensor,
        units: Tensor | None = None,
        unit_lengths: Tensor | None = None,
    ) -> LossTerm:
        """``codes (B, T, Q)``; each row predicts its level of ``levels (B,)`` after its prompt of ``prompt_lengths (B,)`` frames."""
        valid = valid_mask(lengths, codes.shape[1])
        codes = torch.where(valid[..., None], codes, 0)
        logits = self(codes, lengths, prompt_lengths, levels, units, unit_lengths)
        targets = codes.gather(2, levels[:, None, None].expand(-1, codes.shape[1], 1))[..., 0]
        return loss_term(logits, targets, valid & ~valid_mask(prompt_lengths, codes.shape[1]))

    def forward(
        self, codes: Tensor, lengths: Tensor, prompt_lengths: Tensor, levels: Tensor, units: Tensor | None, unit_lengths: Tensor | None
    ) -> Tensor:
        """Logits ``(B, T, codebook_size)`` of each row's level; target frames show only what lies below it."""
        frames = codes.shape[1]
        level = torch.arange(self.num_levels, device=codes.device)
        # A model that has learned without prompts is not shown one: it sees those frames like all others.
        prompt = valid_mask(prompt_lengths if self.prompted else torch.zeros_like(prompt_lengths), frames)  # (B, T)
        seen = prompt[..., None] | (level < levels[:, None, None])  # (B, T, Q)
        x = (self.embed(codes[..., : self.num_levels] + level * self.codebook_size) * seen[..., None]).sum(2)  # (B, T, D)
        x = x + self.role_embed(prompt.long())
        if self.unit_window is not None:
            assert units is not None and unit_lengths is not None
            x = x + self.unit_window(units, unit_lengths, frames)
        hidden = self.transformer(x, Attend.freely(lengths, frames), levels=levels - self.num_coarse)
        chosen = levels - self.num_coarse
        return torch.einsum("btd,bvd->btv", hidden, self.head[chosen].to(hidden.dtype)) + self.head_bias[chosen][:, None]

    @torch.inference_mode()
    def generate(
        self,
        codes: Tensor,
        *,
        lengths: Tensor,
        prompt_lengths: Tensor,
        sampling: Sampling,
        seeds: Sequence[int],
        units: Tensor | None = None,
        unit_lengths: Tensor | None = None,
    ) -> Tensor:
        """Fill levels ``num_coarse..`` of ``codes (B, T, Q)`` after each row's prompt, one pass a level -> ``(B, T, Q)``."""
        codes = codes.clone()
        target = valid_mask(lengths, codes.shape[1]) & ~valid_mask(prompt_lengths, codes.shape[1])
        with evaluating(self):
            for level in range(self.num_coarse, self.num_levels):
                logits = self(codes, lengths, prompt_lengths, torch.full_like(lengths, level), units, unit_lengths)
                # A stream for each row and level, so that batch mates change nothing.
                noise = RowNoise([seed * self.num_levels + level for seed in seeds], self.codebook_size, codes.device)
                codes[..., level] = torch.where(target, sample_all(logits, sampling, noise), codes[..., level])
        return codes
