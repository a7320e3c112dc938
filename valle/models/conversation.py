"""ConversationLM: the next turn's sound from its text and the earlier turns' text and sound (CSM, Sesame 2025).

A position is a text piece or a frame of sound, whose codes are summed.  Turns follow each other as BOS, text with the speaker's tag, EOS,
frames, a frame that ends the turn.  The temporal transformer gives level 0 of the next frame, the depth transformer its other levels.
The loss counts the frames of the last turn alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from valle.models.code_geometry import embeddings_like, heads_like
from valle.models.conversation_config import ConversationConfig
from valle.models.loss import LossTerm, small_head, token_losses
from valle.models.weights import refuse_unfitting
from valle.modules.depth import DepthSteps, DepthTransformer
from valle.modules.gated_depth import GatedDepth, GatedDepthSteps
from valle.modules.gated_transformer import GatedConfig, GatedTransformer
from valle.modules.level_embedding import LevelEmbedding
from valle.modules.transformer import Attend, Transformer

PART = "conversation"
NO_PIECE = -1  # where a frame stands


class ConversationLM(nn.Module):
    """``ConversationLM(config)`` has fresh weights.  ``model(batch)`` returns the part ``conversation``, as the loop asks."""

    def __init__(self, config: ConversationConfig) -> None:
        super().__init__()
        self.config = config
        self.text = nn.Embedding(config.vocabulary.size, config.d_model)
        self.embed = LevelEmbedding(config.num_levels, config.num_codes, config.d_model, std=config.num_levels**-0.5)
        sizes, depth = config.transformer(), config.depth()
        self.transformer = GatedTransformer(sizes) if isinstance(sizes, GatedConfig) else Transformer(sizes)
        if isinstance(depth, GatedConfig):
            self.head = nn.Linear(config.d_model, config.num_codes, bias=False)
            nn.init.normal_(self.head.weight, std=0.02 * config.d_model**-0.5)
            levels = {"num_levels": config.num_levels, "num_codes": config.num_codes}
            self.depth: DepthTransformer | GatedDepth = GatedDepth(depth, frame_dim=config.d_model, **levels)
        else:
            self.head = small_head(config.d_model, config.num_codes)
            self.depth = DepthTransformer(depth)

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: tables of codes that keep the distances of the codec's ``codebooks (Q, K, D)``."""
        levels, size = self.config.num_levels, self.config.codebook_size
        self.embed.weight[:, :size] = embeddings_like(codebooks, self.config.d_model)[:levels]
        self.head.weight[:size] = heads_like(codebooks, self.config.d_model)[0]
        heads = heads_like(codebooks, self.config.depth_dim)[1:levels]
        if isinstance(self.depth, GatedDepth):
            self.depth.head[:, :size] = heads
        else:
            self.depth.embed.weight.copy_(embeddings_like(codebooks, self.config.depth_dim)[: levels - 1])
            self.depth.head.weight.copy_(heads)

    def inputs(self, pieces: Tensor, codes: Tensor) -> Tensor:
        """``pieces (..., N)``, -1 where a frame stands, and ``codes (..., N, Q)``, missing where text stands -> ``(..., N, D)``."""
        text: Tensor = self.text(pieces.clamp(min=0))
        return text.masked_fill((pieces == NO_PIECE)[..., None], 0.0) + self.frames(codes)

    def frames(self, codes: Tensor) -> Tensor:
        """Codes ``(..., Q)`` of frames -> their embeddings, summed ``(..., D)``."""
        summed: Tensor = self.embed(codes).sum(-2)
        return summed

    def depth_logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """``hidden (N, D)`` of frames and their ``codes (N, Q)`` -> logits ``(Q - 1, N, V)`` of the levels above 0."""
        if isinstance(self.depth, GatedDepth):
            return self.depth(hidden, self.embed(codes)[:, :-1])
        logits: Tensor = self.depth(hidden, codes[:, :-1])
        return logits

    def depth_steps(self, batch: int) -> DepthSteps | GatedDepthSteps:
        """What draws the levels above 0 for ``batch`` rows, as long as the weights stay."""
        return self.depth.ready_for_steps(self.embed) if isinstance(self.depth, GatedDepth) else self.depth.ready_for_steps(batch)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, LossTerm]:
        return {PART: self.loss(**batch)}

    def loss(self, **tensors: Tensor) -> LossTerm:
        """The sum over levels; the arguments are those of ``level_terms``."""
        terms = self.level_terms(**tensors)
        return LossTerm(*(torch.stack(part).sum() for part in zip(*terms, strict=True)))

    def validation_terms(self, **tensors: Tensor) -> dict[str, LossTerm]:
        """``conversation_0``, ``conversation_1``, ...: nats and codes of each level."""
        return {f"{PART}_{level}": term for level, term in enumerate(self.level_terms(**tensors))}

    def level_terms(
        self, *, pieces: Tensor, codes: Tensor, lengths: Tensor, places: Tensor, depth_places: Tensor, depth_weights: Tensor
    ) -> list[LossTerm]:
        """The loss of each level.  ``pieces (B, N)``, ``codes (B, N, Q)``, as of ``inputs``; ``lengths (B,)`` of the rows.

        ``places (M,)`` are those of the frames to be predicted, the end of a turn among them, in the batch laid out as one row.  Of
        ``depth_places (m,)`` the depth transformer learns, each frame as much as ``depth_weights (m,)`` says (CSM: a random 1/16).
        """
        hidden = self.transformer(self.inputs(pieces[:, :-1], codes[:, :-1]), Attend.causally())
        steps = codes.flatten(0, 1)
        before = nn.functional.pad(hidden, (0, 0, 1, 0)).flatten(0, 1)  # (B * N, D): at a place, what predicts it
        targets = steps[places, 0]
        nats, hits = token_losses(self.head(before[places]), targets, targets != self.config.missing)
        terms = [LossTerm(nats.sum(), torch.full_like(hits.sum(), len(places)), hits.sum())]
        frames = steps[depth_places]  # (m, Q)
        deeper = frames[:, 1:].T  # (L, m)
        nats, hits = token_losses(self.depth_logits(before[depth_places], frames), deeper, deeper != self.config.missing)
        count = depth_weights.sum().round().long()
        for level_nats, level_hits in zip(nats, hits, strict=True):
            terms.append(LossTerm((level_nats * depth_weights).sum(), count, (level_hits * depth_weights).sum().round().long()))
        return terms

    @classmethod
    def from_weights(cls, fields: Any, weights: Mapping[str, Tensor]) -> ConversationLM:
        """The model of a file's ``fields`` and ``weights``, in evaluation mode; raises ``UserError`` unless they fit."""
        config = ConversationConfig.from_fields(fields)
        with torch.device("meta"):
            wanted = cls(config).state_dict()
        refuse_unfitting(weights, wanted)
        model = cls(config)
        model.load_state_dict(dict(weights))
        return model.eval()
