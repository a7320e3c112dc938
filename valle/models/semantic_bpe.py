"""SemanticLM over byte pairs of units: fewer tokens, each some frames of the unit grid (see valle/tokenizers/unit_bpe.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from valle.decoding.drawing import Known
from valle.decoding.engine import DecodingRequest
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.config import AudioLMConfig
from valle.models.long_tokens import LongTokenLM, LongTokens, ends_of, tokens_in
from valle.tokenizers.unit_bpe import UnitBpe


class BpeSemanticLM(LongTokenLM):
    """Decoder-only over BOS, byte pairs, EOS; frames go in and come out.

    Where a crop ends within the utterance, tokens at its edge are not what they are in the whole, so they are no targets.
    """

    def __init__(self, config: AudioLMConfig) -> None:
        assert config.num_units is not None and config.unit_bpe_model is not None
        bpe = UnitBpe.from_text(config.unit_bpe_model, num_units=config.num_units)
        if bpe.sha256 != config.unit_bpe_sha256:
            raise UserError(
                f"expected the unit BPE {str(config.unit_bpe_sha256)[:12]} that the model was trained with, found {bpe.sha256[:12]}; "
                "copy or export the model again"
            )
        super().__init__(config, num_tokens=bpe.num_tokens)
        self.bpe, self.frames_per_token = bpe, config.frames_per_token

    def _hidden(self, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Over tokens; the arguments are frames, as ``SemanticLM.loss`` has them."""
        tokens, token_lengths = self._encoded(units, lengths, ends)
        return super()._hidden(tokens, token_lengths, starts, ends)

    def token_ends(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        tokens, token_lengths = self._encoded(units, lengths, ends)
        rows = [row[:length] for row, length in zip(tokens.tolist(), token_lengths.tolist(), strict=True)]
        said = [[len(self.bpe.decode([token])) for token in row] for row in rows]
        durations = torch.tensor([row + [0] * (tokens.shape[1] - len(row)) for row in said], device=units.device)
        return ends_of(durations, lengths, starts)

    def histograms(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> dict[str, list[Tensor]]:
        tokens, token_lengths = self._encoded(units, lengths, ends)
        return {self.name: [self.counts(tokens, token_lengths, ends)]}

    def frames_predicted(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> int:
        tokens, token_lengths = self._encoded(units, lengths, ends)
        rows = zip(tokens.tolist(), token_lengths.tolist(), starts.tolist(), strict=True)
        return sum(len(self.bpe.decode(row[0 if start else 1 : length])) for row, length, start in rows)

    def _encoded(self, units: Tensor, lengths: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Frames ``(B, T)`` -> tokens ``(B, N)``, lengths ``(B,)``: all up to an utterance's end, else the settled ones."""
        rows = [row[:length] for row, length in zip(units.tolist(), lengths.tolist(), strict=True)]
        encoded = [self.bpe.encode(row) if end else self.bpe.encode_settled(row)[0] for row, end in zip(rows, ends.tolist(), strict=True)]
        longest = max(map(len, encoded))
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in encoded], dtype=torch.int64, device=units.device)
        return tokens, torch.tensor([len(row) for row in encoded], device=units.device)

    def frames_said_by(self, tokens: Tensor) -> Tensor:
        """Tokens ``(n,)`` -> units ``(T,)``, one a frame."""
        return torch.tensor(self.bpe.decode((tokens - self.first_unit).tolist()), dtype=torch.int64, device=tokens.device)

    def asked(
        self,
        prompts: Sequence[Tensor],
        *,
        max_new: Sequence[int],
        min_new: Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
    ) -> tuple[_BytePairs, DecodingRequest]:
        settled = [self.bpe.encode_settled(prompt.tolist()) for prompt in prompts]
        decoding = _BytePairs(self, [edge for _, edge in settled], min_new=min_new, max_new=max_new)
        return decoding, DecodingRequest(
            prompts=[
                torch.tensor(kept, dtype=torch.int64, device=prompt.device) + self.first_unit
                for (kept, _), prompt in zip(settled, prompts, strict=True)
            ],
            max_new=decoding.max_draws,
            seeds=seeds,
            sampling=sampling,
            window=tokens_in(window, self.frames_per_token),
        )


class _BytePairs(LongTokens):
    """BpeSemanticLM as the engine sees it."""

    model: BpeSemanticLM

    def __init__(self, model: BpeSemanticLM, edges: Sequence[Sequence[int]], *, min_new: Sequence[int], max_new: Sequence[int]) -> None:
        super().__init__(model, edges, min_new=min_new, max_new=max_new)
        lengths = [0] * model.first_unit + [len(piece) for piece in model.bpe.pieces]
        self.lengths = torch.tensor(lengths, device=model.transformer.device)

    def next_logits(self, hidden: Tensor, known: Known) -> Tensor:
        logits = self.model.head(hidden)
        logits[:, self.model.bos] = -torch.inf
        return logits

    def agreeing(self, edge: list[int]) -> list[int]:
        return self.model.bpe.agreeing(edge)

    def frames_of(self, tokens: Tensor) -> Tensor:
        return self.lengths[tokens]
