"""DelayLM: all levels by one transformer, each level a step later than the level that it refines (MusicGen, Copet et al. 2023, 2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.crops import CroppedTokens
from valle.decoding.drawing import Drawn, Known
from valle.decoding.engine import Decoder, DecodingRequest, decode
from valle.decoding.guidance import beside_none, guided, of_told
from valle.decoding.sampling import Noise, Sampling, sample, sample_all
from valle.decoding.seats import Seats, num_seats
from valle.models.code_geometry import embeddings_like, heads_like
from valle.models.config import AudioLMConfig
from valle.models.live_frames import frames_as_drawn
from valle.models.loss import LossTerm, loss_term
from valle.models.stage import ExampleSettings, Stage, code_counts, streams
from valle.models.unit_feed import UnitFeed
from valle.models.unit_window import Around, AroundAll, AroundFed, UnitWindow
from valle.modules.code_pattern import CodePattern, FramesOfSteps
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend, Transformer
from valle.timeline import ceil_division

FIRST_LEVEL = 0xC2B2AE3D27D4EB4F  # the salt of its noise where repetitions are drawn again


class DelayLM(Stage):
    """Steps of a pattern one after another; the codes of a step are drawn at once, each level by a head of its own.

    A position's input is the sum of the codes of the step before, and the units around the newest frame of the step that it predicts.
    The special id, ``codebook_size`` of every level, is an input only: no head has a logit for it, and it is no target.
    """

    name = "delay"
    crop_seconds = 10.0
    sampling = Sampling(temperature=0.8)  # as the coarse stage; MusicGen: 1.0 among the 250 likeliest of 2048
    repetition_window = 10  # of level 0, as in the coarse stage
    takes_guidance = True

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        self.codebook_size, self.periods = config.codebook_size, config.periods
        self.pattern = CodePattern.named(config.delay_pattern, config.num_quantizers)
        self.special = self.codebook_size
        levels, dim = config.num_quantizers, config.d_model
        self.embed = nn.Embedding(levels * (self.codebook_size + 1), dim)
        nn.init.normal_(self.embed.weight, std=levels**-0.5)
        self.unit_window = None
        if config.num_units is not None:
            self.unit_window = UnitWindow(num_units=config.num_units, d_model=dim, reach=config.unit_window, periods=config.periods)
        self.transformer = Transformer(config.transformer(config.delay_num_layers))
        # One parameter for all levels: a clip shorter than a level's delay leaves no parameter without a gradient.
        self.head = nn.Parameter(torch.randn(levels, self.codebook_size, dim) * 0.02 * dim**-0.5)
        self.head_bias = nn.Parameter(torch.zeros(levels, self.codebook_size))

    @property
    def reach(self) -> int:
        """Units after a frame's own that it sees."""
        return 0 if self.unit_window is None else self.unit_window.reach

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: tables of codes that keep the distances of the codec's ``codebooks (Q, K, D)``."""
        levels, dim = self.pattern.num_levels, self.embed.embedding_dim
        table = self.embed.weight.view(levels, self.codebook_size + 1, dim)
        table[:, : self.codebook_size] = embeddings_like(codebooks, dim)[:levels]
        self.head.copy_(heads_like(codebooks, dim)[:levels])

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        return streams(crops, settings.config)

    @classmethod
    def means_the_same(cls, ours: AudioLMConfig, theirs: Mapping[str, Any]) -> bool:
        return ours.delay_pattern == theirs.get("delay_pattern", "delay")

    @classmethod
    def knows_no_conditions(cls, config: AudioLMConfig) -> bool:
        """Without units always: every crop begins without a prompt."""
        return config.num_units is None or super().knows_no_conditions(config)

    def loss(self, *, codes: Tensor, lengths: Tensor, units: Tensor | None = None, unit_lengths: Tensor | None = None) -> LossTerm:
        """The mean of the levels' cross entropies in each row; rows count by their targets.

        A delayed level has fewer targets in a crop than the first: each weighs so that all levels weigh the same.
        """
        delays = torch.tensor(self.pattern.delays, device=codes.device)
        counts = (lengths[:, None] - delays).clamp(min=0)  # (B, Q) targets
        weights = counts.sum(1, keepdim=True) / ((counts > 0).sum(1, keepdim=True) * counts).clamp(min=1)
        predictions = self.predictions(codes, lengths, units, unit_lengths)
        terms = [loss_term(*parts, weights=weights[:, level, None]) for level, parts in enumerate(predictions)]
        return LossTerm(*(torch.stack(part).sum() for part in zip(*terms, strict=True)))

    def validation_terms(
        self, *, codes: Tensor, lengths: Tensor, units: Tensor | None = None, unit_lengths: Tensor | None = None
    ) -> dict[str, LossTerm]:
        """``delay_0``, ``delay_1``, ...: nats and codes of each level, unweighted."""
        predictions = self.predictions(codes, lengths, units, unit_lengths)
        return {f"{self.name}_{level}": loss_term(*parts) for level, parts in enumerate(predictions)}

    def histograms(self, *, codes: Tensor, lengths: Tensor, **units: Tensor) -> dict[str, list[Tensor]]:
        return {
            f"{self.name}_{level}": [code_counts(codes, valid_mask(lengths - delay, codes.shape[1]), level=level, size=self.codebook_size)]
            for level, delay in enumerate(self.pattern.delays)
        }

    def predictions(
        self, codes: Tensor, lengths: Tensor, units: Tensor | None, unit_lengths: Tensor | None
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """By level, logits ``(B, T_q, K)``, their codes ``(B, T_q)`` and which of them are targets.

        Steps that would need a frame past the crop's last are dropped, so that level ``q`` has ``delays[q]`` fewer targets than frames.
        """
        codes = torch.where(valid_mask(lengths, codes.shape[1])[..., None], codes, 0)
        hidden = self(codes, units, unit_lengths)
        found = []
        for level, (offset, delay) in enumerate(zip(self.pattern.offsets, self.pattern.delays, strict=True)):
            ours = hidden[:, offset :: self.pattern.steps_per_frame]  # of frames 0, 1, ...
            logits = F.linear(ours, self.head[level], self.head_bias[level])
            found.append((logits, codes[:, : ours.shape[1], level], valid_mask(lengths - delay, ours.shape[1])))
        return found

    def forward(self, codes: Tensor, units: Tensor | None, unit_lengths: Tensor | None) -> Tensor:
        """Codes ``(B, T, Q)`` -> hidden ``(B, S, D)`` that predicts each of the ``S = T * steps_per_frame`` steps without the tail."""
        each, frames = self.pattern.steps_per_frame, codes.shape[1]
        steps = self.pattern.build(codes, special=self.special, num_steps=each * frames)
        x = self.embed_steps(torch.cat([torch.full_like(steps[:, :1], self.special), steps[:, :-1]], 1))
        if self.unit_window is not None:
            assert units is not None and unit_lengths is not None
            x = x + self.unit_window(units, unit_lengths, frames).repeat_interleave(each, 1)
        hidden: Tensor = self.transformer(x, Attend.causally())
        return hidden

    def embed_steps(self, steps: Tensor) -> Tensor:
        """Steps ``(..., Q)``, codes and special ids -> the sum of their embeddings ``(..., D)``."""
        first = torch.arange(self.pattern.num_levels, device=steps.device) * (self.codebook_size + 1)
        summed: Tensor = self.embed(steps + first).sum(-2)
        return summed

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden ``(B, D)`` of a step -> logits ``(B, Q, K)`` of its levels."""
        return torch.einsum("bd,qkd->bqk", hidden, self.head.to(hidden.dtype)) + self.head_bias

    def generate(
        self,
        prompts: Sequence[Tensor],
        *,
        num_frames: Sequence[int],
        units: Sequence[Tensor] | None,
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
        at_once: int | None = None,
    ) -> list[Tensor]:
        """Continue prompt codes ``(T_b, Q)`` to ``num_frames`` in all, along ``units (T_u,)`` of all that -> codes ``(num_frames_b, Q)``.

        ``window`` counts frames.  A row begins at the first step that holds a frame after its prompt; of the steps from there on, the
        prompt's delayed codes are put where they belong, and the rest is drawn.  Frames after the last, of which the tail's steps
        hold the lower levels, are drawn too and cut off: the model has learned of steps with codes of all levels only.
        With guidance, each row is decoded beside itself without units and prompt.  ``at_once`` rows are decoded together, and one that
        ends makes room for the next; all, if None.
        """
        pattern, together = self.pattern, 1
        new_frames = [total - len(prompt) for prompt, total in zip(prompts, num_frames, strict=True)]
        max_new = [pattern.steps_per_frame * frames + pattern.tail if frames else 0 for frames in new_frames]
        known_codes = list(prompts)
        if sampling.is_guided:
            known_codes, seeds, max_new, together = beside_none(prompts), [*seeds, *seeds], max_new * 2, 2
            units = None if units is None else beside_none(units)
        request = DecodingRequest(
            prompts=[self._steps_of(codes)[: pattern.steps_per_frame * len(codes)] for codes in known_codes],
            max_new=max_new,
            seeds=seeds,
            sampling=sampling,
            window=self._steps_in(window),
            at_once=at_once,
            together=together,
        )
        around = None
        if self.unit_window is not None and units:
            seats = together * num_seats(len(prompts), at_once)
            around = AroundAll(self.unit_window, units, max(num_frames) + pattern.delays[-1] + 1, seats=seats)
        decoded = decode(_Continuation(self, known_codes, around), request)
        rows, each = [], len(prompts)
        for prompt, known, new, total in zip(prompts, request.prompts[:each], decoded[:each], num_frames, strict=True):
            rows.append(pattern.revert(torch.cat([known, new])[None], total)[0] if len(new) else prompt)
        return rows

    @torch.inference_mode()
    def stream(
        self, prompt: Tensor, *, num_frames: int, units: UnitFeed | None, sampling: Sampling, seed: int, window: int
    ) -> Iterator[Tensor]:
        """As ``generate`` of one row, while its units are still being made -> its new frames ``(n, Q)`` as soon as all levels are drawn.

        It ends with the units, or after ``num_frames`` in all.
        """
        pattern, reader = self.pattern, None if units is None else units.reader(reach=self.reach)
        rows = beside_none([prompt]) if sampling.is_guided else [prompt]
        request = DecodingRequest(
            prompts=[self._steps_of(row)[: pattern.steps_per_frame * len(row)] for row in rows],
            max_new=[pattern.steps_per_frame * (num_frames - len(prompt)) + pattern.tail if num_frames > len(prompt) else 0] * len(rows),
            seeds=[seed] * len(rows), sampling=sampling, window=self._steps_in(window), forgets=True,
        )  # fmt: skip
        around = None if self.unit_window is None or reader is None else AroundFed(self.unit_window, reader)
        decoder = Decoder(_Continuation(self, rows, around), request)
        frames = FramesOfSteps(pattern)
        yield from frames_as_drawn(decoder, reader, frames.push, tokens_a_frame=pattern.steps_per_frame, tail=pattern.tail)

    def _steps_of(self, codes: Tensor) -> Tensor:
        """Codes ``(T, Q)`` -> all their steps ``(S, Q)``."""
        return self.pattern.build(codes[None], special=self.special)[0]

    def _steps_in(self, window: int) -> int:
        """Steps of a window that slides; its half holds the longest delay and a whole period, so that no step reaches back before it."""
        each = self.pattern.steps_per_frame
        return max(each * window, 2 * (self.pattern.offsets[-1] + each * self.periods.frames))


class _Continuation:
    """DelayLM as the engine sees it; a token is a step, ``(Q,)`` codes and special ids."""

    end_token = None

    def __init__(self, model: DelayLM, prompts: Sequence[Tensor], around: Around | None) -> None:
        """``around``: what is said around every frame, those after the last included."""
        self.model, self.transformer, self.token_shape = model, model.transformer, (model.pattern.num_levels,)
        self.around = around
        device = model.transformer.device
        self.prompt_lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        most = max((len(prompt) for prompt in prompts), default=0)
        self.prompts = torch.zeros(len(prompts), max(1, most), model.pattern.num_levels, dtype=torch.int64, device=device)
        for row, prompt in zip(self.prompts, prompts, strict=True):
            row[: len(prompt)] = prompt

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        """As the model has learned of what a crop begins with: no codes of the frames before it."""
        model, each = self.model, self.model.pattern.steps_per_frame
        places = torch.arange(start, start + len(tokens) + 1, device=tokens.device)
        before = model.pattern.frames_at(places[:-1]) < start // each
        steps = torch.cat([tokens.new_full((1, tokens.shape[1]), model.special), tokens.masked_fill(before, model.special)])
        x = model.embed_steps(steps)
        return x if self.around is None else x + self.around.of_row(row, self._newest(places))

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        x = self.model.embed_steps(tokens)
        return x if self.around is None else x + self.around.of_rows(self._newest(positions + 1), seats)

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        pattern, size = self.model.pattern, self.model.codebook_size
        logits = guided(self.model.logits(hidden), sampling)  # (B, Q, K)
        drawn = sample_all(logits, sampling, noise.of(size))  # (B, Q), noise of its own for each level
        if sampling.repetition_window:
            recent = known.recent(sampling.repetition_window * pattern.steps_per_frame)  # a special id is no code, and equals none
            first = sample(logits[:, 0], sampling, noise.of(size, salt=FIRST_LEVEL), recent)
            drawn = torch.cat([first[:, None], drawn[:, 1:]], 1)
        drawn = of_told(drawn, sampling)
        frames = pattern.frames_at(known.positions)  # (B, Q)
        rows, places = known.seats.index[:, None], frames.clamp(0, self.prompts.shape[1] - 1)
        prompt = self.prompts[rows, places, torch.arange(frames.shape[1], device=frames.device)]
        codes = torch.where(frames < self.prompt_lengths[rows], prompt, drawn)
        return Drawn(torch.where(frames >= 0, codes, self.model.special)[:, None])

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        return Attend.causally()

    def window_start(self, num_tokens: int, window: int) -> int:
        """Whole periods, so that units and frames of a window begin together."""
        step = self.model.pattern.steps_per_frame * self.model.periods.frames
        return ceil_division(num_tokens - window // 2, step) * step

    def _newest(self, steps: Tensor) -> Tensor:
        """The newest frame of ``steps (...)``."""
        return torch.div(steps, self.model.pattern.steps_per_frame, rounding_mode="floor")
