"""FineLM: how it sounds, finely; non-autoregressive, one level a pass (VALL-E, Wang et al. 2023, 4.2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from valle.crops import CroppedTokens
from valle.decoding.engine import evaluating
from valle.decoding.guidance import guide, in_place, unknown_alone
from valle.decoding.sampling import DrawnNoise, RowNoise, Sampling, sample_all
from valle.models.code_geometry import embeddings_like, heads_like
from valle.models.config import AudioLMConfig
from valle.models.fine_prompts import NEIGHBOUR, NO_PROMPT, prompted
from valle.models.loss import LossTerm, loss_term
from valle.models.stage import ExampleSettings, Stage, code_counts, streams
from valle.models.unit_window import UnitWindow
from valle.models.voice import PooledVoice, voice_of, voice_tensors
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend, Transformer


class FineLM(Stage):
    """Level q of every frame from all lower levels, both ways in time, beside a prompt of which all levels are known.

    Units are summed in too (``fine_units``), which the paper does not do.
    """

    name = "fine"
    crop_seconds = 3.0
    sampling = Sampling(temperature=0.6)  # AudioLM 4.1
    takes_guidance = True

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        self.num_coarse, self.num_levels, self.codebook_size = config.num_coarse, config.num_quantizers, config.codebook_size
        self.prompted = config.prefix_mode != NO_PROMPT
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
        self.pooled_voice = PooledVoice(config) if config.pooled_voice else None

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: tables of codes that keep the distances of the codec's ``codebooks (Q, K, D)``."""
        dim = self.head.shape[-1]
        self.embed.weight.copy_(embeddings_like(codebooks, dim)[: self.num_levels].flatten(0, 1))
        self.head.copy_(heads_like(codebooks, dim)[self.num_coarse : self.num_levels])

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        """A random level and a random prompt of up to two thirds, as ``prefix_mode`` says, of each example."""
        config = settings.config
        fine_levels = config.num_quantizers - config.num_coarse
        levels = [config.num_coarse + int(crop.chance("level") * fine_levels) for crop in crops]
        examples = [prompted(crop, config) for crop in crops]
        prompts = [frames for _, frames in examples]
        batch = streams([example for example, _ in examples], config)
        if config.pooled_voice:
            batch.update(voice_tensors([voice_of(crop, config, first_target=frames) for crop, frames in zip(crops, prompts, strict=True)]))
        return {**batch, "levels": torch.tensor(levels), "prompt_lengths": torch.tensor(prompts)}

    @classmethod
    def needs_neighbours(cls, config: AudioLMConfig) -> bool:
        return config.prefix_mode == NEIGHBOUR

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
        voice: Tensor | None = None,
        voice_lengths: Tensor | None = None,
    ) -> LossTerm:
        """``codes (B, T, Q)``; each row predicts its level of ``levels (B,)`` after its prompt of ``prompt_lengths (B,)`` frames.

        ``voice (B, T_v, Q)`` are codes from elsewhere, of a model with a pooled voice.
        """
        valid = valid_mask(lengths, codes.shape[1])
        codes = torch.where(valid[..., None], codes, 0)
        voices = None if self.pooled_voice is None else self.pooled_voice(voice, voice_lengths)
        logits = self(codes, lengths, prompt_lengths, levels, units, unit_lengths, voices)
        targets = codes.gather(2, levels[:, None, None].expand(-1, codes.shape[1], 1))[..., 0]
        return loss_term(logits, targets, valid & ~valid_mask(prompt_lengths, codes.shape[1]))

    def forward(
        self,
        codes: Tensor,
        lengths: Tensor,
        prompt_lengths: Tensor,
        levels: Tensor,
        units: Tensor | None,
        unit_lengths: Tensor | None,
        voices: Tensor | None = None,
        *,
        said: Tensor | None = None,
        first: int = 0,
        before: Tensor | None = None,
    ) -> Tensor:
        """Logits ``(B, T - first, codebook_size)`` of each row's level, of frames from ``first`` on; ``voices (B, D)``.

        Target frames show only what lies below the level.  ``said (B, T, D)`` is what ``said_around`` makes of the units, and
        ``before (B, first, D)`` what ``inputs`` makes of the frames before ``first``, where they are there already.
        """
        frames = codes.shape[1]
        said = self.said_around(units, unit_lengths, frames) if said is None else said
        x = self.inputs(codes, prompt_lengths, levels, said, voices, first=0 if before is None else first)
        if before is not None:
            x = torch.cat([before, x], 1)
        hidden = self.transformer(x, Attend.freely(lengths, frames), levels=levels - self.num_coarse, first=first)
        chosen = levels - self.num_coarse
        return torch.einsum("btd,bvd->btv", hidden, self.head[chosen].to(hidden.dtype)) + self.head_bias[chosen][:, None]

    def inputs(
        self, codes: Tensor, prompt_lengths: Tensor, levels: Tensor, said: Tensor | None, voices: Tensor | None, *, first: int = 0
    ) -> Tensor:
        """What the transformer gets of frames from ``first`` on ``(B, T - first, D)``; arguments as of ``forward``."""
        level = torch.arange(self.num_levels, device=codes.device)
        # A model that has learned without prompts is not shown one: it sees those frames like all others.
        prompt = valid_mask(prompt_lengths if self.prompted else torch.zeros_like(prompt_lengths), codes.shape[1])[:, first:]
        seen = prompt[..., None] | (level < levels[:, None, None])  # (B, T, Q)
        tokens = codes[:, first:, : self.num_levels] + level * self.codebook_size
        x = (self.embed(tokens) * seen[..., None]).sum(2) + self.role_embed(prompt.long())
        if said is not None:
            x = x + said[:, first:]
        return x if voices is None else x + voices[:, None]

    def said_around(self, units: Tensor | None, unit_lengths: Tensor | None, num_frames: int) -> Tensor | None:
        """What of the units is summed into every frame ``(B, num_frames, D)``, the same for all levels; None in a model without."""
        if self.unit_window is None:
            return None
        assert units is not None and unit_lengths is not None
        said: Tensor = self.unit_window(units, unit_lengths, num_frames)
        return said

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
        voices: Sequence[Tensor] | None = None,
        drawn: DrawnNoise | None = None,
    ) -> Tensor:
        """Fill levels ``num_coarse..`` of ``codes (B, T, Q)`` after each row's prompt, one pass a level -> ``(B, T, Q)``.

        ``voices (T_v, Q)`` are the codes from which a model with a pooled voice takes it; ``drawn`` is what ``draw_ahead`` drew.
        """
        codes = codes.clone()
        first = min(int(prompt_lengths.min()), codes.shape[1] - 1)  # before it, no row has a target
        target = (valid_mask(lengths, codes.shape[1]) & ~valid_mask(prompt_lengths, codes.shape[1]))[:, first:]
        with evaluating(self):
            pooled = None if self.pooled_voice is None else self.pooled_voice.of_rows(voices or [row[:0] for row in codes])
            said = None if sampling.is_guided else self.said_around(units, unit_lengths, codes.shape[1])
            before = None
            if self.prompted and not sampling.is_guided:  # frames of prompts alone, which show all of their levels in every pass
                before = self.inputs(codes[:, :first], prompt_lengths, 0 * lengths, None if said is None else said[:, :first], pooled)
            for level in range(self.num_coarse, self.num_levels):
                levels = torch.full_like(lengths, level)
                if sampling.is_guided:
                    logits = self._guided(codes, lengths, prompt_lengths, levels, units, unit_lengths, pooled, weight=sampling.guidance)
                    logits = logits[:, first:]
                else:
                    logits = self(
                        codes, lengths, prompt_lengths, levels, units, unit_lengths, pooled, said=said, first=first, before=before
                    )  # fmt: skip
                # A stream for each row and level, so that batch mates change nothing.
                own = [self._seed_of(seed, level) for seed in seeds]
                noise = RowNoise(own, self.codebook_size, codes.device, first=first, drawn=drawn)
                codes[:, first:, level] = torch.where(target, sample_all(logits, sampling, noise), codes[:, first:, level])
        return codes

    def draw_ahead(self, noise: DrawnNoise, seed: int, window: int) -> None:
        """Of half a window before the first block, and a block of up to a quarter."""
        for level in range(self.num_coarse, self.num_levels):
            noise.draw(self._seed_of(seed, level), self.codebook_size, 3 * window // 4)

    def _seed_of(self, seed: int, level: int) -> int:
        return seed * self.num_levels + level

    def _guided(
        self,
        codes: Tensor,
        lengths: Tensor,
        prompt_lengths: Tensor,
        levels: Tensor,
        units: Tensor | None,
        unit_lengths: Tensor | None,
        pooled: Tensor | None,
        *,
        weight: float,
    ) -> Tensor:
        """As ``forward``, guided: beside each row, in the same batch, its target frames alone, without prompt, units and voice."""
        prompt = valid_mask(prompt_lengths, codes.shape[1])
        both = self(
            torch.cat([codes, unknown_alone(codes, prompt)]),
            torch.cat([lengths, (lengths - prompt_lengths).clamp(min=1)]),
            torch.cat([prompt_lengths, torch.zeros_like(prompt_lengths)]),
            levels.repeat(2),
            None if units is None else units.repeat(2, 1),
            None if unit_lengths is None else torch.cat([unit_lengths, torch.zeros_like(unit_lengths)]),
            None if self.pooled_voice is None or pooled is None else torch.cat([pooled, self.pooled_voice.nobody.expand_as(pooled)]),
        )
        conditional, unconditional = both.chunk(2)
        return guide(conditional, in_place(unconditional, prompt), weight)
