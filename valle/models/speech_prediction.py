"""Objectives without masks: the future told from the past, by wav2vec (Schneider et al. 2019) and vq-wav2vec (Baevski et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.models.loss import LossTerm
from valle.models.speech_objectives import Batch, draw_others, generator_of, with_penalty
from valle.modules.masks import valid_mask
from valle.modules.product_quantizer import GumbelQuantizer, KMeansQuantizer
from valle.tokenizers.speech_encoder import SpeechEncoder


class FutureObjective(nn.Module):
    """Tell the frame that comes k steps on, for every k up to ``num_steps``, from others of the same row, each by a sigmoid (equation 1).

    With a quantizer (vq-wav2vec), context and future are quantized frames.  The encoder must be causal, or the context
    would hold its future.
    """

    def __init__(
        self, encoder: SpeechEncoder, quantizer: GumbelQuantizer | KMeansQuantizer | None, *, code_dim: int, num_steps: int,
        num_negatives: int, penalty: float,
    ) -> None:  # fmt: skip
        super().__init__()
        if not encoder.config.causal:
            raise UserError("expected a causal encoder, which future prediction needs, found one that hears its future; give --causal true")
        self.encoder, self.quantizer, self.penalty, self.num_negatives = encoder, quantizer, penalty, num_negatives
        dim = encoder.config.d_model
        self.steps = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_steps))
        self.unquantize = nn.Linear(code_dim, encoder.front_end.size) if quantizer else None

    def forward(self, batch: Batch) -> dict[str, LossTerm]:
        frames = self.encoder.num_frames(batch["lengths"])
        heard = self.encoder.hear(batch["wav"], batch["lengths"])
        valid, generator = valid_mask(frames, heard.shape[1]), generator_of(batch)
        penalty = torch.zeros((), device=heard.device)
        if self.quantizer is not None and self.unquantize is not None:
            quantized = self.quantizer(heard, valid, generator=generator)
            heard, penalty = self.unquantize(quantized.vectors), quantized.penalty
        future = self.encoder.embed(heard)
        part = self._contrast(self.encoder.context(future, frames), future, valid, generator)
        return {"wav2vec" if self.quantizer is None else "vq-wav2vec": with_penalty(part, self.penalty * penalty)}

    def _contrast(self, context: Tensor, future: Tensor, valid: Tensor, generator: torch.Generator) -> LossTerm:
        """Sums over all (frame, step) whose future lies within the row."""
        others = draw_others(valid, self.num_negatives, generator)  # (B, S, N), never the frame itself
        total = torch.zeros((), device=context.device)
        count, correct = valid.new_zeros((), dtype=torch.int64), valid.new_zeros((), dtype=torch.int64)
        scale = future.shape[-1] ** -0.5
        for step, head in enumerate(self.steps, 1):
            if step >= valid.shape[1]:
                total = total + 0.0 * sum(parameter.sum() for parameter in head.parameters())  # DDP expects every gradient
                continue
            scores = torch.einsum("bsd,btd->bst", head(context[:, :-step]), future).float() * scale  # (B, S - k, S)
            there = valid[:, step:]
            right = scores.diagonal(offset=step, dim1=1, dim2=2)[there]  # (M,)
            wrong = scores.gather(2, others[:, step:])[there]  # (M, N)
            total = total - F.logsigmoid(right).sum() - F.logsigmoid(-wrong).sum()
            count = count + there.sum()
            correct = correct + (right[:, None] > wrong).all(1).sum()
        return LossTerm(total, count, correct)
