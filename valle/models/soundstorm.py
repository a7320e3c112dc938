"""SoundStormLM: how it sounds, all frames at once and level by level, from masks (SoundStorm, Borsos et al. 2023, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi

import torch
from torch import Tensor, nn

from valle.crops import CroppedTokens
from valle.decoding.engine import evaluating
from valle.decoding.guidance import guide, in_place, unknown_alone
from valle.decoding.masked import fill_masked
from valle.decoding.sampling import Sampling
from valle.models.code_geometry import embeddings_like, heads_like
from valle.models.config import AudioLMConfig
from valle.models.dropping import dropped
from valle.models.loss import LossTerm, loss_term
from valle.models.stage import ExampleSettings, Stage, code_counts, streams
from valle.models.unit_window import UnitWindow
from valle.modules.conformer import Conformer
from valle.modules.masks import valid_mask


class SoundStormLM(Stage):
    """Masked codes of one level from what is left of the level, all levels below it, units, and a prompt of which all is known.

    A frame's input is the sum over levels of the embeddings of its codes, or of the level's mask, and of the units around it.
    Frames of the prompt hold all their codes; after it, levels above the one that is predicted are masked everywhere.
    """

    name = "soundstorm"
    crop_seconds = 30.0
    sampling = Sampling()
    takes_guidance = True

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        self.num_levels, self.codebook_size = config.num_quantizers, config.codebook_size
        self.mask = config.codebook_size  # an input only: no head knows it
        self.embed = nn.Embedding(self.num_levels * (self.codebook_size + 1), config.d_model)
        nn.init.normal_(self.embed.weight, std=self.num_levels**-0.5)
        self.unit_window = None
        if config.num_units is not None:
            self.unit_window = UnitWindow(
                num_units=config.num_units, d_model=config.d_model, reach=config.unit_window, periods=config.periods
            )
        self.conformer = Conformer(config.transformer(config.soundstorm_num_layers), kernel_size=config.soundstorm_kernel)
        # One parameter for all levels: whichever levels a batch draws, every parameter has a gradient.
        self.head = nn.Parameter(torch.randn(self.num_levels, self.codebook_size, config.d_model) * 0.02 * config.d_model**-0.5)
        self.head_bias = nn.Parameter(torch.zeros(self.num_levels, self.codebook_size))

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: tables of codes that keep the distances of the codec's ``codebooks (Q, K, D)``; masks stay random."""
        dim = self.embed.embedding_dim
        self.embed.weight.view(self.num_levels, -1, dim)[:, : self.mask] = embeddings_like(codebooks, dim)[: self.num_levels]
        self.head.copy_(heads_like(codebooks, dim)[: self.num_levels])

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        """Of each example its own prompt's end, level and masks (3.2).

        ``prompt_lengths (B,)`` is uniform over the frames; ``masked (B, T)`` are those from there on that a Bernoulli draw of
        probability cos(u), u uniform on 0..pi/2, says, at least one; ``levels (B,)`` is uniform, or as ``soundstorm_levels`` says.
        An example from which the prompt is left out (``dropping.py``) has 0 frames of it.
        """
        batch = streams(crops, settings.config)
        masked = torch.zeros(batch["codes"].shape[:2], dtype=torch.bool)
        prompts = []
        for row, crop in enumerate(crops):
            length = len(crop.codes)
            prompt = 0 if dropped(crop, settings.config).prompt else int(crop.chance("prompt") * length)
            draws = crop.chances("masks", length)[prompt:] < cos(crop.chance("mask share") * pi / 2)
            if not draws.any():
                draws[int(crop.chance("one mask") * len(draws))] = True
            masked[row, prompt:length] = torch.from_numpy(draws)
            prompts.append(prompt)
        levels = [drawn_level(crop.chance("level"), settings.config) for crop in crops]
        return {**batch, "prompt_lengths": torch.tensor(prompts), "levels": torch.tensor(levels), "masked": masked}

    def validation_terms(self, *, levels: Tensor, **tensors: Tensor) -> dict[str, LossTerm]:
        """``soundstorm_0``, ``soundstorm_1``, ...: every level of every example, under the example's one mask."""
        return {f"{self.name}_{level}": self.loss(levels=torch.full_like(levels, level), **tensors) for level in range(self.num_levels)}

    def histograms(self, *, codes: Tensor, lengths: Tensor, masked: Tensor, **others: Tensor) -> dict[str, list[Tensor]]:
        levels = range(self.num_levels)
        return {f"{self.name}_{level}": [code_counts(codes, masked, level=level, size=self.codebook_size)] for level in levels}

    def loss(
        self,
        *,
        codes: Tensor,
        lengths: Tensor,
        prompt_lengths: Tensor,
        masked: Tensor,
        levels: Tensor,
        units: Tensor | None = None,
        unit_lengths: Tensor | None = None,
    ) -> LossTerm:
        """``codes (B, T, Q)``; each row predicts its level of ``levels (B,)`` where ``masked (B, T)``, and nothing else."""
        valid = valid_mask(lengths, codes.shape[1])
        codes = torch.where(valid[..., None], codes, 0)
        after = valid & ~valid_mask(prompt_lengths, codes.shape[1])
        tokens = self.hide(codes, masked=masked & after, after=after, levels=levels)
        targets = codes.gather(2, levels[:, None, None].expand(-1, codes.shape[1], 1))[..., 0]
        return loss_term(self(tokens, lengths, levels, units, unit_lengths), targets, masked & after)

    def hide(self, codes: Tensor, *, masked: Tensor, after: Tensor, levels: Tensor) -> Tensor:
        """Tokens ``(B, T, Q)``: ``codes`` with masks at each row's level where ``masked (B, T)``, above it wherever ``after (B, T)``."""
        level = torch.arange(self.num_levels, device=codes.device)
        own, above = level == levels[:, None, None], level > levels[:, None, None]  # (B, 1, Q)
        hidden = (own & masked[..., None]) | (above & after[..., None])
        return torch.where(hidden, self.mask, codes[..., : self.num_levels])

    def forward(self, tokens: Tensor, lengths: Tensor, levels: Tensor, units: Tensor | None, unit_lengths: Tensor | None) -> Tensor:
        """Codes or masks ``tokens (B, T, Q)`` -> logits ``(B, T, codebook_size)`` of each row's level."""
        first = torch.arange(self.num_levels, device=tokens.device) * (self.codebook_size + 1)
        x = self.embed(tokens + first).sum(2)  # (B, T, D)
        if self.unit_window is not None:
            assert units is not None and unit_lengths is not None
            x = x + self.unit_window(units, unit_lengths, tokens.shape[1])
        hidden = self.conformer(x, valid_mask(lengths, tokens.shape[1]))
        return torch.einsum("btd,bvd->btv", hidden, self.head[levels].to(hidden.dtype)) + self.head_bias[levels][:, None]

    @torch.inference_mode()
    def generate(
        self,
        codes: Tensor,
        *,
        lengths: Tensor,
        known: Tensor,
        sampling: Sampling,
        seeds: Sequence[int],
        units: Tensor | None = None,
        unit_lengths: Tensor | None = None,
    ) -> Tensor:
        """Fill all levels of ``codes (B, T, Q)`` but in frames that are ``known (B, T)``, wherever these lie -> ``(B, T, Q)``.

        Level by level (3.3), each in ``sampling.passes``.  With guidance, each row has beside it, in the same batch, its unknown
        frames alone, without units, and confidences are those of the guided logits.
        """
        unknown = valid_mask(lengths, codes.shape[1]) & ~known
        codes = codes.clone()
        with evaluating(self):
            for level in range(self.num_levels):

                def logits_of(column: Tensor, masked: Tensor, level: int = level) -> Tensor:
                    codes[..., level] = column
                    levels = torch.full_like(lengths, level)
                    tokens = self.hide(codes, masked=masked, after=unknown, levels=levels)
                    if sampling.is_guided:
                        return self._guided(tokens, lengths, levels, units, unit_lengths, known=known, weight=sampling.guidance)
                    logits: Tensor = self(tokens, lengths, levels, units, unit_lengths)
                    return logits

                codes[..., level] = fill_masked(
                    logits_of, codes[..., level], unknown, sampling, passes=sampling.passes_on(level),
                    seeds=[seed * self.num_levels + level for seed in seeds],
                )  # fmt: skip
        return codes

    def _guided(
        self,
        tokens: Tensor,
        lengths: Tensor,
        levels: Tensor,
        units: Tensor | None,
        unit_lengths: Tensor | None,
        *,
        known: Tensor,
        weight: float,
    ) -> Tensor:
        """As ``forward``, guided; logits of frames that are ``known (B, T)`` mean nothing."""
        inside = valid_mask(lengths, tokens.shape[1])
        both = self(
            torch.cat([tokens, unknown_alone(tokens, known)]),
            torch.cat([lengths, (inside & ~known).sum(1).clamp(min=1)]),
            levels.repeat(2),
            None if units is None else units.repeat(2, 1),
            None if unit_lengths is None else torch.cat([unit_lengths, torch.zeros_like(unit_lengths)]),
        )
        conditional, unconditional = both.chunk(2)
        return guide(conditional, in_place(unconditional, known), weight)


def drawn_level(chance: float, config: AudioLMConfig) -> int:
    """A level by ``chance`` in 0..1: uniform, or level q in proportion to Q - q (MaskGCT, Wang et al. 2024)."""
    count = config.num_quantizers
    if config.soundstorm_levels == "uniform":
        return int(chance * count)
    left = chance * count * (count + 1) / 2
    for level in range(count):
        left -= count - level
        if left < 0:
            return level
    return count - 1
