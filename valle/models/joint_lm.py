"""joint-lm: one decoder over text pieces and units (AudioPaLM, Rubenstein et al. 2023, 3.1 to 3.3).

A sequence is BOS, a tag in plain text, an input, THEN, and one or several outputs with THEN between them, EOS.  The loss counts
outputs alone.  The model is a text LM whose tables have grown by the specials and the units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from valle.errors import UserError
from valle.models.joint_config import JointLMConfig
from valle.models.loss import LossTerm, loss_term
from valle.models.weights import refuse_unfitting
from valle.modules.gated_transformer import GatedConfig, GatedTransformer
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend, Transformer

NewRows = Literal["zero", "random"]
TABLES = ("embed.weight", "head.weight")  # with a row a token
EMBEDDING_STD = 0.02


class JointLM(nn.Module):
    """The decoder; ``JointLM(config)`` has fresh weights, ``take_text_model`` those of a text LM in its old rows.

    ``model(batch)`` returns the part ``joint`` of what training descends, as the loop asks.
    """

    def __init__(self, config: JointLMConfig) -> None:
        super().__init__()
        self.config, self.vocabulary = config, config.vocabulary
        self.bos, self.eos, self.then, self.first_unit = (self.vocabulary.first(name) for name in ("bos", "eos", "then", "units"))
        self.embed = nn.Embedding(self.vocabulary.size, config.d_model)
        nn.init.normal_(self.embed.weight, std=EMBEDDING_STD)
        sizes = config.transformer()
        self.transformer = GatedTransformer(sizes) if isinstance(sizes, GatedConfig) else Transformer(sizes)
        self.head = None if config.tied else nn.Linear(config.d_model, self.vocabulary.size, bias=False)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=EMBEDDING_STD * config.d_model**-0.5)

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits ``(..., V)`` of the next token from ``hidden (..., D)``."""
        logits: Tensor = nn.functional.linear(hidden, self.embed.weight) if self.head is None else self.head(hidden)
        return logits

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits ``(B, N, V)`` of the token after each of ``tokens (B, N)``."""
        return self.scores(self.transformer(self.embed(tokens), Attend.causally()))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, LossTerm]:
        return {"joint": self.loss(**batch)}

    def loss(self, *, tokens: Tensor, lengths: Tensor, starts: Tensor, weights: Tensor, tasks: Tensor) -> LossTerm:
        """``tokens (B, N)``, ``lengths (B,)``; tokens from ``starts (B,)`` on are outputs, whose nats count by ``weights (B,)``."""
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        hidden = self.transformer(self.embed(inputs), Attend.causally())
        place = torch.arange(1, tokens.shape[1], device=tokens.device)
        counts = valid_mask(lengths - 1, targets.shape[1]) & (place >= starts[:, None])
        each = weights[:, None].expand(targets.shape)
        if tokens.device.type == "cpu":  # the vocabulary is larger than the body of a small model: compute what counts
            hidden, targets, each, counts = hidden[counts], targets[counts], each[counts], counts[counts]
        return loss_term(self.scores(hidden), targets, counts, weights=each)

    @torch.no_grad()
    def take_text_model(self, weights: Mapping[str, Tensor], *, new_rows: NewRows) -> None:
        """Start from a text LM's ``weights``, which have this model's names and fewer rows in the tables.

        Rows that are new are zero, so that training makes them, or random at the deviation of the old ones.
        """
        own = self.state_dict()
        for name in sorted(own.keys() | weights.keys()):
            ours, theirs = (tuple(part[name].shape) if name in part else None for part in (own, weights))
            grows = name in TABLES and ours is not None and theirs is not None and ours[1:] == theirs[1:] and ours[0] >= theirs[0]
            if ours != theirs and not grows:
                raise UserError(
                    f"expected a text LM of this model's sizes to grow from, found {theirs or 'none'} for {name}, not {ours or 'none'}"
                )
        for name, tensor in own.items():
            given = weights[name].to(tensor.dtype)
            tensor[: len(given)].copy_(given)
            if len(given) < len(tensor):
                old = given.float().std().item() if new_rows == "random" else 0.0
                new = tensor[len(given) :]
                new.normal_(std=old) if new_rows == "random" else new.zero_()

    @classmethod
    def from_weights(cls, fields: Any, weights: Mapping[str, Tensor]) -> JointLM:
        """The model of a file's ``fields`` and ``weights``, in evaluation mode; raises ``UserError`` unless they fit."""
        config = JointLMConfig.from_fields(fields)
        with torch.device("meta"):
            wanted = cls(config).state_dict()
        refuse_unfitting(weights, wanted)
        model = cls(config)
        model.load_state_dict(dict(weights))
        return model.eval()
