"""SemanticLM over runs: what is said next, and for how long (after pGSLM, Kharitonov et al. 2022, which predicts both from one state)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.decoding.drawing import Drawn, Known, draw_token
from valle.decoding.engine import DecodingRequest
from valle.decoding.sampling import Noise, Sampling, sample
from valle.decoding.seats import Seats
from valle.models.config import AudioLMConfig
from valle.models.long_tokens import LongTokenLM, LongTokens, ends_of, placed, tokens_in
from valle.models.loss import LossTerm, loss_term, nats_of_each, small_head
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend
from valle.tokenizers.unit_runs import collapse, collapse_rows, restore

DURATIONS = 0x9E3779B97F4A7C15  # the salt of their noise
_Units = tuple[Tensor, Tensor, Tensor]
_Durations = tuple[Tensor, Tensor, Tensor, Tensor]
UNKNOWN = 0  # the duration of what has none (BOS), and of a unit that was cut off before the crop


class RunSemanticLM(LongTokenLM):
    """Decoder-only over BOS, units without repeats, EOS; a head of its own tells how many frames each lasts.

    A position knows its unit and its duration.  From it the next unit is predicted, and from it and the next unit, that
    unit's duration.  A unit never follows itself but after a run of the longest length, so every sequence of frames has one
    sequence of runs, and the loss is its exact negative log-likelihood:

    - A crop's last run, where the utterance goes on, is known to last at least as long as is seen: its target is that
      (survival), not that it ends there.  The same holds of a prompt's last run, whose rest is drawn given that.
    - A crop's first unit, where the utterance began before, has lasted for nobody knows how long: it is context, no target.
    """

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__(config)
        self.longest, self.frames_per_token = config.longest_run, config.frames_per_token
        self.embed_duration = nn.Embedding(self.longest + 1, config.d_model)
        self.mix_unit = nn.Linear(2 * config.d_model, config.d_model)
        self.duration_head = small_head(config.d_model, self.longest)

    def loss(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> LossTerm:
        """Nats of units and durations together, counted and scored by units."""
        terms = self.validation_terms(units=units, lengths=lengths, starts=starts, ends=ends)
        unit, duration = terms["semantic_unit"], terms["semantic_duration"]
        return LossTerm(unit.sum + duration.sum, unit.count, unit.correct)

    def validation_terms(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> dict[str, LossTerm]:
        """``semantic_unit`` and ``semantic_duration``, whose sums add up to the loss."""
        unit, _, duration = self._runs_predicted(units, lengths, starts, ends)
        return {"semantic_unit": loss_term(*unit), "semantic_duration": self._duration_part(*duration)}

    def token_nats(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Of a unit and its duration together."""
        unit, lasting, duration = self._runs_predicted(units, lengths, starts, ends)
        nats = nats_of_each(*unit)
        nats[lasting] += self._duration_nats(*duration)[0]
        return nats

    def token_ends(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        return ends_of(collapse_rows(units, lengths, self.longest).durations, lengths, starts)

    def _runs_predicted(self, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> tuple[_Units, Tensor, _Durations]:
        """What ``loss_term`` takes of units, which of those have a duration ``(B, R + 1)``, and what ``_duration_nats`` takes of these."""
        runs = collapse_rows(units, lengths, self.longest)
        tokens, token_lengths = self.tokens(runs.units, runs.lengths, starts, ends)  # (B, R + 2)
        durations, opening = placed(runs.durations, starts), placed(runs.opening & ~starts[:, None], starts)
        known = durations.masked_fill(opening, UNKNOWN)
        hidden = self.transformer(self.inputs(tokens[:, :-1], known[:, :-1]), Attend.causally())
        last = valid_mask(token_lengths, tokens.shape[1]) & ~valid_mask(token_lengths - 1, tokens.shape[1])
        tokens, before, durations, after = tokens[:, 1:], (tokens[:, :-1], durations[:, :-1]), durations[:, 1:], opening[:, 1:]
        target = valid_mask(token_lengths - 1, tokens.shape[1]) & ~after
        lasting = target & (tokens >= self.first_unit)
        goes_on = (last[:, 1:] & ~ends[:, None])[lasting]
        unit = self.unit_logits(hidden, *before), tokens, target
        return unit, lasting, (hidden[lasting], tokens[lasting], durations[lasting], goes_on)

    def histograms(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> dict[str, list[Tensor]]:
        runs = collapse_rows(units, lengths, self.longest)
        durations = torch.bincount(runs.durations[runs.durations > 0] - 1, minlength=self.longest).double()
        return {"semantic_unit": [self.counts(runs.units, runs.lengths, ends)], "semantic_duration": [durations]}

    def frames_predicted(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> int:
        runs = collapse_rows(units, lengths, self.longest)
        return int(runs.durations[~(runs.opening & ~starts[:, None])].sum())

    def inputs(self, tokens: Tensor, durations: Tensor) -> Tensor:
        """``(...)`` each -> ``(..., D)``."""
        return self.embed(tokens) + self.embed_duration(durations)

    def unit_logits(self, hidden: Tensor, tokens: Tensor, durations: Tensor) -> Tensor:
        """What may follow ``tokens (...)`` that lasted ``durations (...)``: ``hidden (..., D)`` -> ``(..., V)``."""
        itself = torch.where(durations < self.longest, tokens, self.bos)
        logits = self.head(hidden).scatter(-1, itself[..., None], -torch.inf)
        return logits.index_fill(-1, torch.tensor([self.bos], device=logits.device), -torch.inf)

    def duration_logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """How long ``tokens (...)`` last that follow ``hidden (..., D)``: ``(..., longest)``, the first for one frame."""
        return self.duration_head(F.gelu(self.mix_unit(torch.cat([hidden, self.embed(tokens)], -1))))

    def _duration_part(self, hidden: Tensor, tokens: Tensor, durations: Tensor, goes_on: Tensor) -> LossTerm:
        nats, likeliest = self._duration_nats(hidden, tokens, durations, goes_on)
        correct = torch.where(goes_on, likeliest >= durations, likeliest == durations)
        return LossTerm(nats.sum(), torch.tensor(len(durations), device=nats.device), correct.sum())

    def _duration_nats(self, hidden: Tensor, tokens: Tensor, durations: Tensor, goes_on: Tensor) -> tuple[Tensor, Tensor]:
        """Nats ``(N,)`` of durations, or where ``goes_on`` of lasting at least as long, and the likeliest durations ``(N,)``."""
        logits = self.duration_logits(hidden, tokens)  # (N, longest)
        log_probability = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        shorter = torch.arange(1, self.longest + 1, device=logits.device) < durations[:, None]
        exactly = log_probability.gather(1, durations[:, None] - 1)[:, 0]
        at_least = log_probability.masked_fill(shorter, -torch.inf).logsumexp(-1)
        return -torch.where(goes_on, at_least, exactly), log_probability.argmax(-1) + 1

    def asked(
        self,
        prompts: Sequence[Tensor],
        *,
        max_new: Sequence[int],
        min_new: Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
    ) -> tuple[_Runs, DecodingRequest]:
        runs = [collapse(prompt, self.longest) for prompt in prompts]
        edges = [restore(units[-1:], durations[-1:]).tolist() for units, durations in runs]
        decoding = _Runs(self, edges, min_new=min_new, max_new=max_new)
        return decoding, DecodingRequest(
            prompts=[torch.stack([units[:-1] + self.first_unit, durations[:-1]], -1) for units, durations in runs],
            max_new=decoding.max_draws, seeds=seeds, sampling=sampling, window=tokens_in(window, self.frames_per_token),
        )  # fmt: skip

    def frames_said_by(self, tokens: Tensor) -> Tensor:
        """Units and durations ``(n, 2)`` -> units ``(T,)``, one a frame."""
        return restore(tokens[:, 0] - self.first_unit, tokens[:, 1])


class _Runs(LongTokens):
    """RunSemanticLM as the engine sees it: a token is a unit and its duration, which is drawn as soon as the unit is known."""

    model: RunSemanticLM
    token_shape = (2,)

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        units, durations = tokens.unbind(-1)
        if start == 0:
            units = torch.cat([units.new_tensor([self.model.bos]), units])
            durations = torch.cat([durations.new_tensor([UNKNOWN]), durations])
        else:  # as the model has learned of what a crop begins with
            durations = torch.cat([durations.new_tensor([UNKNOWN]), durations[1:]])
        return self.model.inputs(units, durations)

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        return self.model.inputs(*tokens.unbind(-1))

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        edges = self.edges_left(known)
        allowed = self.allowed(self.next_logits(hidden, known), edges, known)
        frames = self.frames_of(known.tokens)
        units = draw_token(allowed, known, sampling, noise, end_token=self.end_token, frames=frames).tokens[:, 0]
        logits = self.model.duration_logits(hidden, units)
        for row, edge in enumerate(edges):
            if edge:  # it lasted so long already
                logits[row, : len(edge) - 1] = -torch.inf
        drawn = sample(logits, replace(sampling, repetition_window=0), noise.of(self.model.longest, salt=DURATIONS)) + 1
        durations = torch.where(units >= self.model.first_unit, drawn, UNKNOWN)
        return Drawn(torch.stack([units, durations], -1)[:, None])

    def next_logits(self, hidden: Tensor, known: Known) -> Tensor:
        before = (known.positions - (1 + known.first)).clamp(min=0)
        units, durations = known.tokens[torch.arange(len(before), device=before.device), before].unbind(-1)
        is_first = known.positions == 0
        return self.model.unit_logits(hidden, units.masked_fill(is_first, self.model.bos), durations.masked_fill(is_first, UNKNOWN))

    def agreeing(self, edge: list[int]) -> list[int]:
        return edge[:1]

    def frames_of(self, tokens: Tensor) -> Tensor:
        return tokens[..., 1]
