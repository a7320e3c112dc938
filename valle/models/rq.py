"""RqLM: all codes of a frame at each step, a temporal transformer over frames and a depth transformer over their levels.

RQ-Transformer (Lee et al. 2022, 3.2), as Moshi (Defossez et al. 2024, 3.4) and CSM (Sesame 2025) use it for sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from valle.crops import CroppedTokens
from valle.decoding.drawing import Drawn, Known
from valle.decoding.engine import Decoder, DecodingRequest, decode
from valle.decoding.guidance import beside_none, guided, of_told
from valle.decoding.sampling import Noise, Sampling, sample
from valle.decoding.seats import Seats, num_seats
from valle.errors import UserError
from valle.models.code_geometry import embeddings_like, heads_like
from valle.models.config import AudioLMConfig
from valle.models.live_frames import frames_as_drawn
from valle.models.loss import LossTerm, small_head, token_losses
from valle.models.stage import ExampleSettings, Stage, code_counts, streams
from valle.models.unit_feed import UnitFeed
from valle.models.unit_window import Around, AroundAll, AroundFed, UnitWindow
from valle.modules.acoustic_delay import AcousticDelay
from valle.modules.code_pattern import CodePattern, FramesOfSteps
from valle.modules.depth import DepthConfig, DepthTransformer
from valle.modules.level_embedding import LevelEmbedding
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend, Transformer
from valle.timeline import ceil_division

NO_FRAME = -1  # of padded lists of frames
LEVEL = 0x5851F42D4C957F2D  # times a level: the salt of its noise


class RqLM(Stage):
    """Codes of all levels, frame by frame; a step's input is the codes of the step before it, summed, plus the units around its frame.

    Level 0 has a head on the temporal transformer (CSM) or is the first of the depth transformer, after a learned start (Moshi).
    With an acoustic delay of d, step s predicts level 0 of frame s and the other levels of frame s - d; codes that are not there,
    number ``codebook_size``, add nothing to an input and have no loss, so that a crop's every code is predicted once.
    """

    name = "rq"
    crop_seconds = 10.0
    sampling = Sampling(temperature=0.8)
    repetition_window = 10  # as the coarse stage's
    takes_guidance = True

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        if config.num_quantizers < 2:
            raise UserError("the acoustic model rq predicts the levels of a frame after each other; expected 2 codebooks or more, found 1")
        self.num_levels, self.codebook_size, self.periods = config.num_quantizers, config.codebook_size, config.periods
        self.delay = AcousticDelay(config.acoustic_delay, missing=config.codebook_size)
        self.level_weights = level_weights(config)
        self.start = nn.Parameter(torch.randn(config.d_model))
        self.embed = LevelEmbedding(self.num_levels, self.codebook_size, config.d_model, std=self.num_levels**-0.5)
        self.unit_window = None
        if config.num_units is not None:
            self.unit_window = UnitWindow(
                num_units=config.num_units, d_model=config.d_model, reach=config.unit_window, periods=config.periods
            )
        self.transformer = Transformer(config.transformer(config.rq_num_layers))
        self.head = small_head(config.d_model, self.codebook_size) if config.rq_first_level == "temporal" else None
        self.depth = DepthTransformer(depth_config(config))

    @property
    def reach(self) -> int:
        """Units after a frame's own that it sees."""
        return 0 if self.unit_window is None else self.unit_window.reach

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: tables of codes that keep the distances of the codec's ``codebooks (Q, K, D)``."""
        dim, depth, first = len(self.start), self.depth, self.num_levels - self.depth.config.num_levels
        self.embed.weight.copy_(embeddings_like(codebooks, dim)[: self.num_levels])
        if self.head is not None:
            self.head.weight.copy_(heads_like(codebooks, dim)[0])
        depth.embed.weight.copy_(embeddings_like(codebooks, depth.config.dim)[: self.num_levels - 1])
        depth.head.weight.copy_(heads_like(codebooks, depth.config.dim)[first : self.num_levels])

    @classmethod
    def means_the_same(cls, ours: AudioLMConfig, theirs: Mapping[str, Any]) -> bool:
        return bool(theirs.get("acoustic_delay", 0) == ours.acoustic_delay)

    @classmethod
    def knows_no_conditions(cls, config: AudioLMConfig) -> bool:
        """Without units always: every crop begins without a prompt."""
        return config.num_units is None or super().knows_no_conditions(config)

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        """Codes and units; with a ``depth_share`` below 1, the frames ``depth_frames (B, n)`` of each example that the depth learns."""
        batch, share = streams(crops, settings.config), settings.config.depth_share
        if share < 1:
            frames = [torch.tensor(drawn_frames(crop, share)) for crop in crops]
            batch["depth_frames"] = pad_sequence(frames, batch_first=True, padding_value=NO_FRAME)
        return batch

    def histograms(self, *, codes: Tensor, lengths: Tensor, **others: Tensor) -> dict[str, list[Tensor]]:
        valid = valid_mask(lengths, codes.shape[1])
        levels = range(self.num_levels)
        return {f"{self.name}_{level}": [code_counts(codes, valid, level=level, size=self.codebook_size)] for level in levels}

    def loss(self, **tensors: Tensor) -> LossTerm:
        """The weighted mean over levels, times all codes; the arguments are those of ``level_terms``."""
        terms = self.level_terms(**tensors)
        nats = sum(weight * term.sum for weight, term in zip(self.level_weights, terms, strict=True))
        assert isinstance(nats, Tensor)
        return LossTerm(nats, torch.stack([term.count for term in terms]).sum(), torch.stack([term.correct for term in terms]).sum())

    def validation_terms(self, *, depth_frames: Tensor | None = None, **tensors: Tensor) -> dict[str, LossTerm]:
        """``rq_0``, ``rq_1``, ...: every level on all frames, unweighted; their nats together are the codes' joint."""
        return {f"{self.name}_{level}": term for level, term in enumerate(self.level_terms(**tensors))}

    def level_terms(
        self,
        *,
        codes: Tensor,
        lengths: Tensor,
        units: Tensor | None = None,
        unit_lengths: Tensor | None = None,
        depth_frames: Tensor | None = None,
    ) -> list[LossTerm]:
        """The loss of each level.  ``codes (B, T, Q)``, ``lengths (B,)`` frames; with units ``(B, T_u)``.

        Of the frames ``depth_frames (B, n)`` alone, -1 behind a shorter row's, the depth transformer learns; an example's few
        stand for all its frames, so that a sum keeps its expectation.
        """
        steps = self.delay.apply(codes[..., : self.num_levels], lengths)  # (B, S, Q)
        around = None
        if self.unit_window is not None:
            assert units is not None and unit_lengths is not None
            around = self.unit_window(units, unit_lengths, steps.shape[1])
        hidden = self.transformer(self.inputs(self.embed(steps[:, :-1]), around), Attend.causally())
        counts = (steps != self.delay.missing).sum((0, 1)).unbind()
        nats, hits = self._depth_losses(hidden, steps, lengths, depth_frames)
        if self.head is not None:
            first, hit = token_losses(self.head(hidden), steps[..., 0], steps[..., 0] != self.delay.missing)
            nats, hits = torch.cat([first.sum()[None], nats]), torch.cat([hit.sum()[None], hits])
        return [LossTerm(*term) for term in zip(nats.unbind(), counts, hits.unbind(), strict=True)]

    def inputs(self, before: Tensor, around: Tensor | None) -> Tensor:
        """Embedded codes ``before (..., S - 1, Q, D)`` of the steps before, what is said ``around (..., S, D)`` -> ``(..., S, D)``."""
        x = torch.cat([self.start.expand(*before.shape[:-3], 1, -1), before.sum(-2)], -2)
        return x if around is None else x + around

    def _depth_losses(self, hidden: Tensor, steps: Tensor, lengths: Tensor, depth_frames: Tensor | None) -> tuple[Tensor, Tensor]:
        """Nats and hits ``(L,)`` of the levels that the depth transformer predicts."""
        scale = None
        if depth_frames is not None:
            there = depth_frames != NO_FRAME
            place = (depth_frames.clamp(min=0) + self.delay.steps)[..., None]
            hidden = hidden.gather(1, place.expand(-1, -1, hidden.shape[2]))
            steps = steps.gather(1, place.expand(-1, -1, self.num_levels)).masked_fill(~there[..., None], self.delay.missing)
            scale = (lengths / there.sum(1))[:, None].expand(there.shape).flatten()  # (N,)
        hidden, steps = hidden.flatten(0, 1), steps.flatten(0, 1)  # (N, D), (N, Q)
        targets = steps[:, -self.depth.config.num_levels :].T  # (L, N)
        nats, hits = token_losses(self.depth(hidden, steps[:, :-1]), targets, targets != self.delay.missing)
        if scale is not None:
            nats, hits = nats * scale, hits * scale
        return nats.sum(1), hits.sum(1).round().long()

    @torch.inference_mode()
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
        """Continue prompt codes ``(T_b, Q)`` to ``num_frames`` in all, along ``units (T_u,)`` of all that -> ``(num_frames_b, Q)``.

        ``window`` counts frames.  All levels of the prompt stay, those too that its last frames' delay puts after its end.
        With guidance, each row is decoded beside itself without units and prompt.  ``at_once`` rows are decoded together, and one that
        ends makes room for the next; all, if None.
        """
        known_codes, totals, together = list(prompts), list(num_frames), 1
        if sampling.is_guided:
            known_codes, seeds, together = beside_none(prompts), [*seeds, *seeds], 2
            totals += [total - len(prompt) for prompt, total in zip(prompts, num_frames, strict=True)]
            units = None if units is None else beside_none(units)
        around, seats = None, together * num_seats(len(prompts), at_once)
        if self.unit_window is not None:
            assert units is not None
            around = AroundAll(self.unit_window, units, max(num_frames) + self.delay.steps + 1, seats=seats)
        decoding = _Continuation(self, known_codes, around, totals, seats=seats)
        known = [len(codes) for codes in known_codes]
        request = DecodingRequest(
            prompts=[row[:frames] for row, frames in zip(decoding.given, known, strict=True)],
            max_new=[total - frames + self.delay.steps if total > frames else 0 for total, frames in zip(totals, known, strict=True)],
            seeds=seeds,
            sampling=sampling,
            window=self.periods.window(window) + self.delay.steps,
            at_once=at_once,
            together=together,
        )
        rows, decoded = [], decode(decoding, request)
        for prompt, given, new in zip(prompts, request.prompts[: len(prompts)], decoded[: len(prompts)], strict=True):
            codes = self.delay.undo(torch.cat([given, new])) if len(new) else prompt[:, : self.num_levels].long()
            rows.append(codes)
        return rows

    @torch.inference_mode()
    def stream(
        self, prompt: Tensor, *, num_frames: int, units: UnitFeed | None, sampling: Sampling, seed: int, window: int
    ) -> Iterator[Tensor]:
        """As ``generate`` of one row, while its units are still being made -> its new frames ``(n, Q)`` as soon as all levels are drawn.

        It ends with the units, or after ``num_frames`` in all.
        """
        reader, late = None if units is None else units.reader(reach=self.reach), self.delay.steps
        around = None if self.unit_window is None or reader is None else AroundFed(self.unit_window, reader)
        rows = beside_none([prompt]) if sampling.is_guided else [prompt]
        new = num_frames - len(prompt)
        decoding = _Continuation(
            self, rows, around, [len(row) + new for row in rows], seats=len(rows), given_frames=[len(row) + late + 1 for row in rows]
        )  # fmt: skip
        request = DecodingRequest(
            prompts=[given[: len(row)] for given, row in zip(decoding.given, rows, strict=True)],
            max_new=[new + late if new > 0 else 0] * len(rows),
            seeds=[seed] * len(rows), sampling=sampling, window=self.periods.window(window) + late, forgets=True,
        )  # fmt: skip

        def end(total: int) -> None:
            decoding.num_frames = [len(row) + total - len(prompt) for row in rows]

        frames = FramesOfSteps(CodePattern(offsets=(0, *[late] * (self.num_levels - 1)), steps_per_frame=1))
        yield from frames_as_drawn(Decoder(decoding, request), reader, frames.push, tail=late, on_end=end)


class _Continuation:
    """RqLM as the engine sees it; token number s of a row is step s, all levels of it."""

    end_token = None

    def __init__(
        self, model: RqLM, prompts: Sequence[Tensor], around: Around | None, num_frames: list[int], *, seats: int,
        given_frames: list[int] | None = None,
    ) -> None:  # fmt: skip
        """``around``: what is said around every step's frame; ``given_frames`` bounds what is kept of rows that may go on for hours."""
        self.model, self.transformer, self.num_frames, self.around = model, model.transformer, num_frames, around
        self.token_shape = (model.num_levels,)
        self.delay, self.table = model.delay, model.embed.table()
        self.depth = model.depth.ready_for_steps(seats)
        given = num_frames if given_frames is None else given_frames
        device, lengths = self.table.device, torch.tensor(given, device=self.table.device)
        codes = torch.full((len(prompts), max(given), model.num_levels), -1, device=device)
        for row, prompt in zip(codes, prompts, strict=True):
            row[: len(prompt)] = prompt[:, : model.num_levels]
        self.given = self.delay.apply(codes, lengths)  # (B, S, Q): the prompts' codes, missing ones, -1 for what is drawn

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        """As a crop that begins at frame ``start``."""
        places = torch.arange(start, start + len(tokens) + 1, device=tokens.device)
        around = None if self.around is None else self.around.of_row(row, places)
        return self.model.inputs(self.model.embed(self.delay.as_begun(tokens), self.table), around)

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        x = self.model.embed(tokens, self.table).sum(-2)
        return x if self.around is None else x + self.around.of_rows(positions + 1, seats)

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        given = self._given(known)

        def choose(level: int, logits: Tensor) -> Tensor:
            recent = None
            if sampling.repetition_window:
                recent = replace(known, tokens=known.tokens[..., level]).recent(sampling.repetition_window)
            code = sample(guided(logits, sampling), sampling, noise.of(self.model.codebook_size, salt=level * LEVEL), recent)
            code = of_told(code, sampling)
            return code if given is None else torch.where(given[:, level] < 0, code, given[:, level])

        head = self.model.head
        first = [] if head is None else [choose(0, head(hidden))]
        others = self.depth.run(hidden, first[0] if first else None, lambda level, logits: choose(level + len(first), logits))
        return Drawn(torch.stack([*first, *others], -1)[:, None])

    def _given(self, known: Known) -> Tensor | None:
        """What of this step is not drawn ``(B, Q)``, -1 elsewhere; None where all of it is.

        That is the prompts' delayed tails and the levels of no frame, which a delay leaves at both ends of a row.
        """
        totals, late = [self.num_frames[row] for row in known.seats.rows], self.delay.steps
        places = zip(known.counts, known.prompt_lengths, totals, strict=True)
        if late and any(count < prompt + late or count >= frames for count, prompt, frames in places):
            given = self.given[known.seats.index, known.positions.clamp(max=self.given.shape[1] - 1)]
            after = [count >= frames for count, frames in zip(known.counts, totals, strict=True)]
            given[:, 0].masked_fill_(torch.tensor(after, device=given.device), self.delay.missing)
            return given
        return None

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        return Attend.causally()

    def window_start(self, num_tokens: int, window: int) -> int:
        """Whole periods, so that units and frames of a window begin together."""
        return ceil_division(num_tokens - window // 2, self.model.periods.frames) * self.model.periods.frames


def depth_config(config: AudioLMConfig) -> DepthConfig:
    """Sizes of the depth transformer of a model."""
    dim, starts = config.depth_dim or max(1, config.d_model // 2), config.rq_first_level == "depth"
    return DepthConfig(
        frame_dim=config.d_model, dim=dim, nhead=config.depth_nhead or max(1, dim // (config.d_model // config.nhead)),
        num_layers=config.depth_num_layers, num_levels=config.num_quantizers - (not starts), codebook_size=config.codebook_size,
        learned_start=starts, shared_blocks=config.depth_weights == "shared", dropout=config.dropout,
    )  # fmt: skip


def level_weights(config: AudioLMConfig) -> list[float]:
    """The weight of each level, 1 on average: the loss is a weighted mean (Moshi, 3.4)."""
    given = config.level_weights or [1.0]
    weights = [float(given[min(level, len(given) - 1)]) for level in range(config.num_quantizers)]
    return [weight * len(weights) / sum(weights) for weight in weights]


def drawn_frames(crop: CroppedTokens, share: float) -> list[int]:
    """A random ``share`` of a crop's frames, at least one, in order; by the example itself, never by its batch mates."""
    frames = range(len(crop.codes))
    chances = [crop.chance(f"depth {frame}") for frame in frames]
    return sorted(sorted(frames, key=chances.__getitem__)[: max(1, round(share * len(frames)))])
