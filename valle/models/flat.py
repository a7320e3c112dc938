"""AudioLM's own acoustic stages: coarse levels flattened after the units, fine ones after the coarse (Borsos et al. 2022, 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from valle.crops import CroppedTokens, pad
from valle.decoding.sampling import Sampling
from valle.models.coarse import CoarseLM
from valle.models.code_geometry import embeddings_like, heads_like
from valle.models.config import AudioLMConfig
from valle.models.loss import LossTerm, loss_term
from valle.models.stage import ExampleSettings, Stage, code_counts
from valle.modules.masks import valid_mask


class FlatCoarseLM(CoarseLM):
    """``CoarseLM`` over the model's own share of levels, ``AudioLMConfig.flat_coarse``."""

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__(replace(config, num_coarse=config.flat_coarse_levels))


class FlatFineLM(Stage):
    """Fine levels of a chunk, frame 0 level Q', frame 0 level Q' + 1, ..., frame 1 level Q', ..., after all its coarse codes.

    A ``CoarseLM`` whose levels are the fine ones and whose units are the coarse codes, put before them (``prefix``), each level in
    its own range.  Neither units nor codes of another chunk are seen, as in the paper.
    """

    name = "flatfine"
    crop_seconds = 3.0  # AudioLM 3.2; also of the chunks that are filled
    sampling = Sampling(temperature=0.6)  # AudioLM 4.1

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        self.num_given, self.num_levels, self.codebook_size = config.flat_coarse_levels, config.num_quantizers, config.codebook_size
        self.num_fine = self.num_levels - self.num_given
        self.lm = CoarseLM(replace(
            config, num_quantizers=self.num_fine, num_coarse=self.num_fine, flat_coarse=0, coarse_num_layers=config.fine_num_layers,
            num_units=self.num_given * self.codebook_size, coarse_conditioning="prefix",
            units_per_period=self.num_given, frames_per_period=1, pooled_voice=False, drop_conditions=0.0, drop_prompt=0.0,
            coarse_drafts=0,
        ))  # fmt: skip

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: tables of codes that keep the distances of the codec's ``codebooks (Q, K, D)``."""
        dim, table = self.lm.embed.embedding_dim, self.lm.embed.weight
        embeddings = embeddings_like(codebooks, dim)[: self.num_levels].flatten(0, 1)
        given = self.num_given * self.codebook_size
        table[: len(embeddings) - given] = embeddings[given:]
        table[self.lm.first_unit :] = embeddings[:given]
        self.lm.head.weight.copy_(heads_like(codebooks, dim)[self.num_given : self.num_levels].flatten(0, 1))

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        codes, lengths = pad([crop.codes for crop in crops])
        return {"codes": codes, "lengths": lengths}

    def loss(self, *, codes: Tensor, lengths: Tensor) -> LossTerm:
        """``codes (B, T, Q)``, ``lengths (B,)`` frames; every fine code is a target."""
        return loss_term(*self._predictions(codes, lengths))

    def validation_terms(self, *, codes: Tensor, lengths: Tensor) -> dict[str, LossTerm]:
        """``flatfine_4``, ``flatfine_5``, ...: the same by level."""
        parts = self._predictions(codes, lengths)
        return {
            f"{self.name}_{self.num_given + level}": loss_term(*(part[:, level :: self.num_fine] for part in parts))
            for level in range(self.num_fine)
        }

    def histograms(self, *, codes: Tensor, lengths: Tensor) -> dict[str, list[Tensor]]:
        valid, levels = valid_mask(lengths, codes.shape[1]), range(self.num_given, self.num_levels)
        return {f"{self.name}_{level}": [code_counts(codes, valid, level=level, size=self.codebook_size)] for level in levels}

    def generate(
        self, codes: Sequence[Tensor], *, known: Sequence[int], sampling: Sampling, seeds: Sequence[int], at_once: int | None = None
    ) -> list[Tensor]:
        """Fill the fine levels of chunks ``(T_b, Q)``, of which the first ``known`` frames have theirs -> ``(T_b, Q)`` each.

        ``at_once`` chunks are decoded together, and one that ends makes room for the next; all, if None.
        """
        fine = self.lm.generate(
            [chunk[:frames, self.num_given : self.num_levels] for chunk, frames in zip(codes, known, strict=True)],
            num_frames=[len(chunk) for chunk in codes],
            units=[self._flat_given(chunk) for chunk in codes],
            sampling=sampling,
            seeds=seeds,
            window=max(len(chunk) for chunk in codes) + 1,  # a chunk is whole: nothing slides
            at_once=at_once,
        )
        return [torch.cat([chunk[:, : self.num_given], levels], 1) for chunk, levels in zip(codes, fine, strict=True)]

    def _predictions(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``(B, T * F, K)`` of the flattened fine codes, these, and which are targets."""
        given = self._flat_given(torch.where(valid_mask(lengths, codes.shape[1])[..., None], codes, 0))
        fine = codes[..., self.num_given : self.num_levels]
        return self.lm.predictions(codes=fine, lengths=lengths, units=given, unit_lengths=lengths * self.num_given)

    def _flat_given(self, codes: Tensor) -> Tensor:
        """Codes ``(..., T, Q)`` -> their coarse levels flattened, each in its own range ``(..., T * Q')``."""
        offsets = torch.arange(self.num_given, device=codes.device) * self.codebook_size
        return (codes[..., : self.num_given] + offsets).flatten(-2)
