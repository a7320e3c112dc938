"""SemanticLM over runs: what is said next, and for how long (after pGSLM, Kharitonov et al. 2022, which predicts both from one state)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.decoding.engine import DecodingRequest, decode
from valle.decoding.sampling import RowNoise, Sampling, sample
from valle.models.config import AudioLMConfig
from valle.models.parts import LossPart, loss_part, small_head, valid_mask
from valle.models.semantic import SemanticLM
from valle.models.semantic_steps import LongTokens, tokens_in
from valle.modules.transformer import Attend
from valle.tokenizers.unit_runs import collapse, collapse_rows, restore

UNKNOWN = 0  # the duration of what has none (BOS), and of a unit that was cut off before the crop


class RunSemanticLM(SemanticLM):
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

    def loss(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> LossPart:
        """Nats of units and durations together, counted and scored by units."""
        parts = self.loss_parts(units=units, lengths=lengths, starts=starts, ends=ends)
        unit, duration = parts["semantic_unit"], parts["semantic_duration"]
        return LossPart(unit.sum + duration.sum, unit.count, unit.correct)

    def loss_parts(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> dict[str, LossPart]:
        """``semantic_unit`` and ``semantic_duration``, whose sums add up to the loss."""
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
        return {
            "semantic_unit": loss_part(self.unit_logits(hidden, *before), tokens, target),
            "semantic_duration": self._duration_part(hidden[lasting], tokens[lasting], durations[lasting], goes_on),
        }

    def histograms(self, *, units: Tensor, lengths: Tensor, starts: Tensor, ends: Tensor) -> dict[str, Tensor]:
        runs = collapse_rows(units, lengths, self.longest)
        durations = torch.bincount(runs.durations[runs.durations > 0] - 1, minlength=self.longest).double()
        return {"semantic_unit": self.counts(runs.units, runs.lengths, ends), "semantic_duration": durations}

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

    def _duration_part(self, hidden: Tensor, tokens: Tensor, durations: Tensor, goes_on: Tensor) -> LossPart:
        logits = self.duration_logits(hidden, tokens)  # (N, longest)
        log_probability = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        shorter = torch.arange(1, self.longest + 1, device=logits.device) < durations[:, None]
        exactly = log_probability.gather(1, durations[:, None] - 1)[:, 0]
        at_least = log_probability.masked_fill(shorter, -torch.inf).logsumexp(-1)
        likeliest = log_probability.argmax(-1) + 1
        correct = torch.where(goes_on, likeliest >= durations, likeliest == durations)
        count = torch.tensor(len(durations), device=logits.device)
        return LossPart(-torch.where(goes_on, at_least, exactly).sum(), count, correct.sum())

    def generate(
        self,
        prompts: Sequence[Tensor],
        *,
        max_new: Sequence[int],
        min_new: Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
    ) -> list[Tensor]:
        """As ``SemanticLM.generate``: prompts, limits, window and result are frames; ``sampling`` is that of units and durations."""
        runs = [collapse(prompt, self.longest) for prompt in prompts]
        edges = [restore(units[-1:], durations[-1:]).tolist() for units, durations in runs]
        kept = [(units[:-1] + self.first_unit, durations[:-1]) for units, durations in runs]
        noise = RowNoise([seed ^ 0x9E3779B97F4A7C15 for seed in seeds], self.longest, self.transformer.device)
        decoding = _Runs(self, kept, edges, sampling=sampling, noise=noise, min_new=min_new, max_new=max_new)
        request = DecodingRequest(
            prompts=[tokens for tokens, _ in kept], max_new=decoding.max_draws, seeds=seeds, sampling=sampling,
            window=tokens_in(window, self.frames_per_token),
        )  # fmt: skip
        rows = []
        for row, tokens in enumerate(decode(decoding, request)):
            first, edge = len(kept[row][0]), len(edges[row])
            durations = tokens.new_tensor(decoding.durations[row][first : first + len(tokens)])
            rows.append(restore(tokens - self.first_unit, durations)[edge : edge + max_new[row]])
        return rows


def placed(values: Tensor, starts: Tensor) -> Tensor:
    """``values (B, R)`` of runs where ``SemanticLM.tokens`` puts them: ``(B, R + 2)``, 0 at BOS, EOS and past the end."""
    batch, length = values.shape
    shifted = torch.arange(length, device=values.device) + starts.long()[:, None]
    return values.new_zeros(batch, length + 2).scatter(1, shifted, values)


class _Runs(LongTokens):
    """RunSemanticLM as the engine sees it: a token is a unit, and its duration is drawn as soon as it is known."""

    model: RunSemanticLM

    def __init__(
        self,
        model: RunSemanticLM,
        kept: Sequence[tuple[Tensor, Tensor]],
        edges: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        noise: RowNoise,
        min_new: Sequence[int],
        max_new: Sequence[int],
    ) -> None:
        super().__init__(model, edges, min_new=min_new, max_new=max_new)
        self.sampling, self.noise = replace(sampling, repetition_window=0), noise
        self.durations = [durations.tolist() for _, durations in kept]  # of all tokens of a row, those drawn included
        device = model.transformer.device
        self.token = torch.tensor([int(tokens[-1]) if len(tokens) else model.bos for tokens, _ in kept], device=device)
        self.duration = torch.tensor([row[-1] if row else UNKNOWN for row in self.durations], device=device)
        self.hidden = torch.empty(0)

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        durations = tokens.new_tensor(self.durations[row][start : start + len(tokens)])
        if start == 0:
            tokens = torch.cat([tokens.new_tensor([self.model.bos]), tokens])
            durations = torch.cat([durations.new_tensor([UNKNOWN]), durations])
        else:
            durations[:1] = UNKNOWN  # as the model has learned of what a crop begins with
        return self.model.inputs(tokens, durations)

    def next_logits(self, hidden: Tensor) -> Tensor:
        self.hidden = hidden
        return self.model.unit_logits(hidden, self.token, self.duration)

    def agreeing(self, edge: list[int]) -> list[int]:
        return edge[:1]

    def extend(self, tokens: Tensor) -> tuple[Tensor, list[int]]:
        logits = self.model.duration_logits(self.hidden, tokens)
        for row, edge in enumerate(self.edges):
            if edge:  # it lasted so long already
                logits[row, : len(edge) - 1] = -torch.inf
        spoken = tokens >= self.model.first_unit
        self.token, self.duration = tokens, torch.where(spoken, sample(logits, self.sampling, self.noise) + 1, UNKNOWN)
        frames: list[int] = self.duration.tolist()
        for row, duration in enumerate(frames):
            self.durations[row].append(duration)
        return self.model.inputs(self.token, self.duration), frames
