"""What a speech encoder is trained to do, with masks: HuBERT, wav2vec 2.0, w2v-BERT.  All are computed on masked frames alone.

An objective owns its encoder, is called with a batch and returns one ``LossTerm``.  A batch is ``wav (B, T)`` float32, ``lengths
(B,)`` samples, ``mask (B, S)`` bool over frames, ``seed ()`` from which everything is drawn, and for HuBERT ``targets (B, S, E)``,
where E target sets stand side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.models.loss import LossTerm, loss_term, small_head
from valle.modules.masks import valid_mask
from valle.modules.product_quantizer import GumbelQuantizer, KMeansQuantizer, ProductQuantized
from valle.tokenizers.speech_encoder import SpeechEncoder

Batch = Mapping[str, Tensor]

CONTRAST_TEMPERATURE = 0.1  # wav2vec 2.0, equation 3
CODE_TEMPERATURE = 0.1  # tau of Hsu et al. 2021, equation 3


class MaskedObjective(nn.Module):
    """Common part: the encoder sees a learned vector wherever ``mask`` stands."""

    def __init__(self, encoder: SpeechEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.mask_embedding = nn.Parameter(torch.empty(encoder.config.d_model).uniform_())

    def masked(self, heard: Tensor, mask: Tensor) -> Tensor:
        """The front end's frames, embedded, masked frames replaced; ``(B, S, D)``."""
        x = self.encoder.embed(heard)
        return torch.where(mask[..., None], self.mask_embedding.to(x.dtype), x)


class CosineHead(nn.Module):
    """HuBERT's published head: the cosine of a projected state and each cluster's embedding, over 0.1 (Hsu et al. 2021, equation 3)."""

    def __init__(self, dim: int, size: int, *, code_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, code_dim)
        self.codes = nn.Parameter(torch.empty(size, code_dim).uniform_())  # as in fairseq

    def forward(self, x: Tensor) -> Tensor:
        """``x (..., D)`` -> logits ``(..., size)``."""
        return F.normalize(self.project(x).float(), dim=-1) @ F.normalize(self.codes.float(), dim=-1).T / CODE_TEMPERATURE


class HubertObjective(MaskedObjective):
    """Predict the cluster of every frame; several target sets have a head each.

    A head is a linear layer, or with ``code_dim`` the published one, of embeddings of that width.

    ``masked_weight`` is alpha of Hsu et al. 2021, equation 1: the weight of the masked frames' mean loss, which with 1 is all.
    The frames that are heard have the rest.  Where the voice is changed before it is heard, they teach to hear past it.
    """

    def __init__(
        self, encoder: SpeechEncoder, num_clusters: Sequence[int], *, masked_weight: float = 1.0, code_dim: int | None = None
    ) -> None:
        super().__init__(encoder)
        self.masked_weight = masked_weight
        dim = encoder.config.d_model
        self.heads = nn.ModuleList(
            small_head(dim, size) if code_dim is None else CosineHead(dim, size, code_dim=code_dim) for size in num_clusters
        )

    def forward(self, batch: Batch) -> dict[str, LossTerm]:
        frames = self.encoder.num_frames(batch["lengths"])
        mask = batch["mask"] & valid_mask(frames, batch["mask"].shape[1])
        x = self.encoder.context(self.masked(self.encoder.hear(batch["wav"], batch["lengths"]), mask), frames)
        masked = predicted_part(self.heads, x[mask], batch["targets"][mask])
        if self.masked_weight == 1:
            return {"hubert": masked}
        heard = ~mask & valid_mask(frames, mask.shape[1])
        rest = predicted_part(self.heads, x[heard], batch["targets"][heard])
        per_frame = rest.sum / rest.count.clamp(min=1)
        return {"hubert": masked._replace(sum=self.masked_weight * masked.sum + (1 - self.masked_weight) * per_frame * masked.count)}


class ContrastHead(nn.Module):
    """Find a masked frame's quantized vector among those of other masked frames of the same row (wav2vec 2.0, equation 3)."""

    def __init__(self, d_model: int, code_dim: int, *, num_negatives: int) -> None:
        super().__init__()
        self.context, self.target = nn.Linear(d_model, code_dim), nn.Linear(code_dim, code_dim)
        self.num_negatives = num_negatives

    def forward(self, context: Tensor, quantized: ProductQuantized, mask: Tensor, generator: torch.Generator) -> LossTerm:
        """``context (B, S, D)``, ``mask (B, S)``; rows with fewer than two masked frames have nothing to tell apart."""
        mask = mask & (mask.sum(1) > 1)[:, None]
        chosen = draw_others(mask, self.num_negatives, generator)  # (B, S, N)
        similar = torch.einsum(
            "bsd,btd->bst",
            F.normalize(self.context(context).float(), dim=-1), F.normalize(self.target(quantized.vectors).float(), dim=-1),
        )  # fmt: skip
        candidates = torch.cat([torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)[..., None], chosen], -1)
        logits = similar.gather(2, candidates)[mask] / CONTRAST_TEMPERATURE  # (M, 1 + N)
        codes = take_frames(quantized.codes, candidates)[mask]  # (M, 1 + N, G)
        same = (codes[:, 1:] == codes[:, :1]).all(-1)  # the very same vector is no distractor
        logits[:, 1:] = logits[:, 1:].masked_fill(same, float("-inf"))
        zeros = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return loss_term(logits, zeros, torch.ones_like(zeros, dtype=torch.bool))


class ContrastObjective(MaskedObjective, ABC):
    """Common part of what tells a masked frame's quantized vector from others."""

    def __init__(
        self, encoder: SpeechEncoder, quantizer: GumbelQuantizer | KMeansQuantizer, *, code_dim: int, num_negatives: int, penalty: float
    ) -> None:
        super().__init__(encoder)
        self.quantizer, self.penalty = quantizer, penalty
        self.contrast = ContrastHead(encoder.config.d_model, code_dim, num_negatives=num_negatives)

    def forward(self, batch: Batch) -> dict[str, LossTerm]:
        frames = self.encoder.num_frames(batch["lengths"])
        valid = valid_mask(frames, batch["mask"].shape[1])
        mask, generator = batch["mask"] & valid, generator_of(batch)
        heard = self.encoder.hear(batch["wav"], batch["lengths"])
        quantized = self.quantizer(heard, valid, generator=generator)
        return self.compare(self.masked(heard, mask), frames, mask, quantized, generator)

    @abstractmethod
    def compare(
        self, embedded: Tensor, frames: Tensor, mask: Tensor, quantized: ProductQuantized, generator: torch.Generator
    ) -> dict[str, LossTerm]:
        """The loss of the masked frames ``embedded (B, S, D)``, of which ``frames (B,)`` are audio."""


class Wav2Vec2Objective(ContrastObjective):
    """Masked contrast over quantized frames, and the quantizer's penalty (Baevski et al. 2020, equation 2)."""

    def compare(
        self, embedded: Tensor, frames: Tensor, mask: Tensor, quantized: ProductQuantized, generator: torch.Generator
    ) -> dict[str, LossTerm]:
        part = self.contrast(self.encoder.context(embedded, frames), quantized, mask, generator)
        return {"wav2vec2": with_penalty(part, self.penalty * quantized.penalty)}


class W2vBertObjective(ContrastObjective):
    """The contrast on the lower half of the blocks, and the quantizer's codes predicted by the upper (Chung et al. 2021, 3.3)."""

    def __init__(
        self, encoder: SpeechEncoder, quantizer: GumbelQuantizer | KMeansQuantizer, *, code_dim: int, num_negatives: int, penalty: float
    ) -> None:
        super().__init__(encoder, quantizer, code_dim=code_dim, num_negatives=num_negatives, penalty=penalty)
        self.contrast_norm = nn.LayerNorm(encoder.config.d_model)
        self.heads = nn.ModuleList(small_head(encoder.config.d_model, quantizer.size) for _ in range(quantizer.groups))
        self.lower = (encoder.config.num_layers + 1) // 2

    def compare(
        self, embedded: Tensor, frames: Tensor, mask: Tensor, quantized: ProductQuantized, generator: torch.Generator
    ) -> dict[str, LossTerm]:
        for layer, state in enumerate(self.encoder.states(embedded, frames)):
            x = state
            if layer == self.lower:
                middle = state
        contrast = self.contrast(self.contrast_norm(middle), quantized, mask, generator)
        predicted = predicted_part(self.heads, self.encoder.finish(x)[mask], quantized.codes[mask])
        per_frame = contrast.sum / contrast.count.clamp(min=1) + self.penalty * quantized.penalty
        return {"w2v-bert": with_penalty(predicted, per_frame)}


def predicted_part(heads: nn.ModuleList, x: Tensor, targets: Tensor) -> LossTerm:
    """Cross entropy of every head on frames ``x (M, D)`` at its own ``targets (M, E)``, summed over heads."""
    everywhere = torch.ones(len(x), dtype=torch.bool, device=x.device)
    parts = [loss_term(head(x), targets[:, index], everywhere) for index, head in enumerate(heads)]
    return LossTerm(*(torch.stack(values).sum() for values in zip(*parts, strict=True)))


def with_penalty(part: LossTerm, penalty: Tensor) -> LossTerm:
    """``penalty`` a target more, so that the mean over targets is the loss plus the penalty."""
    return LossTerm(part.sum + penalty * part.count, part.count, part.correct)


def generator_of(batch: Batch) -> torch.Generator:
    """Draws that are a function of the batch, in training and in validation."""
    return torch.Generator(device=batch["wav"].device).manual_seed(int(batch["seed"]))


def draw_others(among: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """For every frame that ``among (B, S)`` allows, ``count`` other ones of its row -> positions ``(B, S, count)`` int64.

    Uniform, with replacement; frames that are not allowed, and rows with fewer than two, get something meaningless.
    """
    size = among.sum(1)  # (B,)
    order = (~among).int().argsort(dim=1, stable=True)  # (B, S) allowed positions first
    rank = among.cumsum(1) - 1  # (B, S) of an allowed frame among its row's
    uniform = torch.rand((*among.shape, count), generator=generator, device=among.device)
    others = (uniform * (size - 1).clamp(min=1)[:, None, None]).long().clamp(max=among.shape[1] - 1)
    others = others + (others >= rank[..., None])  # past itself
    others = others.clamp(max=among.shape[1] - 1)
    return order[:, None].expand(-1, among.shape[1], -1).gather(2, others)


def take_frames(values: Tensor, positions: Tensor) -> Tensor:
    """``values (B, S, G)`` at ``positions (B, S, N)`` -> ``(B, S, N, G)``."""
    return values[torch.arange(len(values), device=values.device)[:, None, None], positions]
