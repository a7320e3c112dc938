"""SemanticLM: what is said next, as units (AudioLM, Borsos et al. 2022, 3.2, first stage)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from valle.crops import CroppedTokens, pad
from valle.decoding.drawing import Drawn, Known, draw_token
from valle.decoding.engine import DecodingRequest
from valle.decoding.multi_token import decode_drafting, decoder_of
from valle.decoding.read_ahead import Ahead, ReadAhead
from valle.decoding.sampling import Noise, Sampling
from valle.decoding.seats import Seats
from valle.decoding.tables import TokenTables
from valle.models.config import AudioLMConfig
from valle.models.draft_heads import DraftingView, descending_too, draft_heads, draft_terms
from valle.models.loss import LossTerm, loss_term, nats_of_each, small_head
from valle.models.stage import ExampleSettings, SemanticStage
from valle.models.vocabulary import Vocabulary
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend, Transformer


class SemanticLM(SemanticStage):
    """Decoder-only over BOS, units, EOS.

    BOS and EOS stand only where a crop holds the utterance's true start and end, so the model learns to stop where
    speech stops and not where crops do.  Units come and go one a frame of the unit grid; between, a subclass may have
    fewer tokens: ``RunSemanticLM``, ``BpeSemanticLM``.
    """

    name = "semantic"
    crop_seconds = 30.0
    sampling = Sampling(temperature=0.9)  # AudioLM has 0.6 (4.1): small models fall silent more often then, and keep voices less

    def __init__(self, config: AudioLMConfig, *, num_tokens: int | None = None) -> None:
        """``num_tokens``: as many as there are units, unless told otherwise."""
        super().__init__()
        assert config.num_units is not None
        self.vocabulary = Vocabulary((("bos", 1), ("eos", 1), ("units", config.num_units if num_tokens is None else num_tokens)))
        self.bos, self.eos, self.first_unit = (self.vocabulary.first(name) for name in ("bos", "eos", "units"))
        self.embed = nn.Embedding(self.vocabulary.size, config.d_model)
        self.transformer = Transformer(config.transformer(config.semantic_num_layers))
        self.head = small_head(config.d_model, self.vocabulary.size)
        self.drafts = draft_heads(
            dim=config.d_model, vocabulary_size=self.vocabulary.size, number=config.semantic_drafts, chained=config.chained_drafts
        )
        self.draft_weight = config.draft_weight

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        units, lengths = pad([crop.units for crop in crops])
        starts, ends = torch.tensor([crop.starts for crop in crops]), torch.tensor([crop.ends for crop in crops])
        return {"units": units, "lengths": lengths, "starts": starts, "ends": ends}

    @classmethod
    def means_the_same(cls, ours: AudioLMConfig, theirs: Mapping[str, Any]) -> bool:
        same = theirs.get("unit_sequence", "frames"), theirs.get("unit_bpe_sha256")
        return same == (ours.unit_sequence, ours.unit_bpe_sha256)

    def loss(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> LossTerm:
        """``units (B, T)``, ``lengths (B,)``; ``starts`` and ``ends (B,)`` bool say which rows hold the utterance's own."""
        term, drafts = self._terms(units, lengths, starts, ends)
        return descending_too(term, drafts, weight=self.draft_weight)

    def validation_terms(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> dict[str, LossTerm]:
        """``semantic``, and of draft heads ``semantic_draft1`` and so on."""
        if self.drafts is None:
            return super().validation_terms(units=units, lengths=lengths, starts=starts, ends=ends)
        term, drafts = self._terms(units, lengths, starts, ends)
        return {self.name: term, **draft_terms(self.name, drafts)}

    def token_nats(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        hidden, targets, valid = self._hidden(units, lengths, starts, ends)
        return nats_of_each(self.head(hidden), targets, valid)

    def token_ends(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        after = torch.arange(units.shape[1] + 1, device=units.device) + 1 + (~starts).long()[:, None]
        return after.clamp(max=lengths[:, None]) / lengths[:, None].double()

    def _terms(self, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> tuple[LossTerm, list[LossTerm]]:
        """Of the next token, and of every draft head."""
        hidden, targets, valid = self._hidden(units, lengths, starts, ends)
        term = loss_term(self.head(hidden), targets, valid)
        return term, [] if self.drafts is None else self.drafts.terms(hidden, targets, valid, embed=self.embed)

    def _hidden(self, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What predicts each token ``(B, N, D)``, the tokens and whether they count ``(B, N)``."""
        tokens, token_lengths = self.tokens(units, lengths, starts, ends)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        hidden = self.transformer(self.embed(inputs), Attend.causally())
        return hidden, targets, valid_mask(token_lengths - 1, targets.shape[1])

    @property
    def num_drafts(self) -> int:
        return 0 if self.drafts is None else self.drafts.number

    def histograms(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> dict[str, list[Tensor]]:
        """How often each token stands in a batch, the end last."""
        return {self.name: [self.counts(units, lengths, ends)]}

    def counts(self, tokens: Tensor, lengths: Tensor, ends: Tensor) -> Tensor:
        """``tokens (B, T)`` without specials -> ``(num_tokens + 1,)`` float64, the end last."""
        valid = tokens[valid_mask(lengths, tokens.shape[1])]
        return torch.cat([torch.bincount(valid, minlength=self.vocabulary.size - self.first_unit), ends.sum()[None]]).double()

    def frames_predicted(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> int:
        """Frames of the unit grid that the targets of ``loss`` cover: all but what is given."""
        return int((lengths - (~starts).long()).clamp(min=0).sum())

    def tokens(self, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Units with BOS and EOS where they belong: ``(B, T + 2)``, lengths ``(B,)``."""
        batch, length = units.shape
        tokens = units.new_zeros(batch, length + 2)
        shifted = torch.arange(length, device=units.device) + starts.long()[:, None]
        tokens.scatter_(1, shifted, torch.where(valid_mask(lengths, length), units + self.first_unit, 0))
        tokens[:, 0] = torch.where(starts, self.bos, tokens[:, 0])
        stops = lengths + starts.long()
        tokens.scatter_(1, stops[:, None], torch.where(ends, self.eos, 0)[:, None])
        return tokens, stops + ends.long()

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
        """Continue ``prompts`` (units ``(n_b,)``, each from its utterance's start) -> new units of each, until EOS is sampled."""
        decoding = _Continuation(self)
        request = DecodingRequest(
            prompts=[prompt + self.first_unit for prompt in prompts],
            max_new=max_new,
            min_new=min_new,
            seeds=seeds,
            sampling=sampling,
            window=window,
            at_once=at_once,
        )
        return [tokens - self.first_unit for tokens in decode_drafting(decoding, request)]

    def read_ahead(self, ahead: Ahead, codes: Tensor, units: Tensor) -> None:
        ahead.read(self.name, self.transformer, _Continuation(self).window_inputs(0, 0, units + self.first_unit))

    @torch.inference_mode()
    def stream(
        self, prompt: Tensor, *, max_new: int, min_new: int, sampling: Sampling, seed: int, window: int, ahead: ReadAhead | None = None
    ) -> Iterator[Tensor]:
        request = DecodingRequest(
            prompts=[prompt + self.first_unit], max_new=[max_new], min_new=[min_new], seeds=[seed], sampling=sampling, window=window,
            forgets=True, ahead=ahead,
        )  # fmt: skip
        if max_new > 0:
            for step in decoder_of(_Continuation(self), request):
                yield step.new[0] - self.first_unit


class _Continuation(DraftingView):
    """SemanticLM as the engine sees it."""

    token_shape: tuple[int, ...] = ()
    tokens_a_frame = 1

    def __init__(self, model: SemanticLM) -> None:
        self.model, self.transformer, self.end_token = model, model.transformer, model.eos

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        if start == 0:
            tokens = torch.cat([tokens.new_tensor([self.model.bos]), tokens])
        return self.model.embed(tokens)

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        return self.model.embed(tokens)

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        logits = self.possible(self.scores(hidden), known.positions)
        return draw_token(logits, known, sampling, noise, end_token=self.end_token)

    def possible(self, logits: Tensor, positions: Tensor) -> Tensor:
        logits[:, self.model.bos] = -torch.inf
        return logits

    def tables(self, seats: Seats) -> TokenTables | None:
        model, size = self.model, self.model.vocabulary.size
        bias = model.head.bias.detach().float().clone()
        bias[model.bos] = -torch.inf
        nothing = bias.new_zeros(1, model.embed.embedding_dim)
        return TokenTables(
            head=model.head.weight, bias=bias, inputs=model.embed.weight, places=nothing, allowed=torch.tensor([[0, size]]),
            around=None, voices=None,
        )  # fmt: skip

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        return Attend.causally()

    def window_start(self, num_tokens: int, window: int) -> int:
        return num_tokens - window // 2
