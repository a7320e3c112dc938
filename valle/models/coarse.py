"""CoarseLM: how it sounds, coarsely; autoregressive over the first codebooks (AudioLM 3.2; VALL-E 4.2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from valle.crops import CroppedTokens
from valle.decoding.drawing import Drawn, Known, draw_token
from valle.decoding.engine import DecodingRequest
from valle.decoding.guidance import agreed, beside_none, guided
from valle.decoding.multi_token import decode_drafting, decoder_of
from valle.decoding.read_ahead import Ahead, ReadAhead
from valle.decoding.sampling import Noise, Sampling
from valle.decoding.seats import Seats, num_seats
from valle.decoding.tables import TokenTables
from valle.models.code_geometry import embeddings_like, heads_like
from valle.models.config import AudioLMConfig
from valle.models.draft_heads import DraftingView, descending_too, draft_heads, draft_terms
from valle.models.dropping import dropped
from valle.models.live_frames import frames_as_drawn
from valle.models.loss import LossTerm, loss_term, nats_of_each, small_head
from valle.models.stage import ExampleSettings, Stage, code_counts, streams
from valle.models.unit_feed import UnitFeed, UnitReader
from valle.models.unit_window import Around, AroundAll, AroundFed, UnitWindow
from valle.models.vocabulary import Vocabulary
from valle.models.voice import PooledVoice, give_up_beginning, voice_of, voice_tensors
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend, Transformer
from valle.timeline import ceil_division


class CoarseLM(Stage):
    """Codes of the first ``num_coarse`` levels, row by row: frame 0 level 0, frame 0 level 1, ..., frame 1 level 0, ...

    ``aligned``: a position's input is the code before it plus the units around its frame.  ``prefix`` (the paper's):
    units, a separator, codes.  Without units: the prompt's positions see each other freely, the rest causally.
    """

    name = "coarse"
    crop_seconds = 10.0
    sampling = Sampling(temperature=0.8)  # AudioLM 4.1
    repetition_window = 10  # VALL-E 2's
    takes_guidance = True

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        self.num_coarse, self.codebook_size, self.periods = config.num_coarse, config.codebook_size, config.periods
        self.conditioning = None if config.num_units is None else config.coarse_conditioning
        num_codes = self.num_coarse * self.codebook_size
        prefix_units = config.num_units if self.conditioning == "prefix" else 0
        self.vocabulary = Vocabulary((("codes", num_codes), ("start", 1), ("units", prefix_units or 0)))
        self.start, self.first_unit = self.vocabulary.first("start"), self.vocabulary.first("units")
        self.embed = nn.Embedding(self.vocabulary.size, config.d_model)
        self.level_embed = nn.Embedding(self.num_coarse, config.d_model)
        self.unit_window = None
        if self.conditioning == "aligned":
            assert config.num_units is not None
            self.unit_window = UnitWindow(
                num_units=config.num_units, d_model=config.d_model, reach=config.unit_window, periods=config.periods
            )
        self.transformer = Transformer(config.transformer(config.coarse_num_layers))
        self.head = small_head(config.d_model, num_codes)
        self.pooled_voice = PooledVoice(config) if config.pooled_voice else None
        self.drafts = draft_heads(
            dim=config.d_model, vocabulary_size=num_codes, number=config.coarse_drafts, chained=config.chained_drafts
        )  # fmt: skip
        self.draft_weight = config.draft_weight

    @property
    def reach(self) -> int:
        """Units after a frame's own that it sees."""
        return 0 if self.unit_window is None else self.unit_window.reach

    @torch.no_grad()
    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: tables of codes that keep the distances of the codec's ``codebooks (Q, K, D)``."""
        dim, num_codes = self.embed.embedding_dim, self.num_coarse * self.codebook_size
        self.embed.weight[:num_codes] = embeddings_like(codebooks, dim)[: self.num_coarse].flatten(0, 1)
        self.head.weight.copy_(heads_like(codebooks, dim)[: self.num_coarse].flatten(0, 1))

    @classmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        config = settings.config
        if config.pooled_voice and config.num_units is not None:
            crops = [give_up_beginning(crop, config) for crop in crops]
        batch = streams(crops, config)
        first_targets = [0] * len(crops)
        if config.num_units is None:
            shares = [_prompt_share(crop, settings) for crop in crops]
            prompts = [share * length for share, length in zip(shares, batch["lengths"].tolist(), strict=True)]
            prompt_lengths = torch.minimum(torch.tensor(prompts).long().clamp(min=1), batch["lengths"] - 1).clamp(min=0)
            without = torch.tensor([dropped(crop, config).prompt for crop in crops])
            batch["prompt_lengths"] = prompt_lengths.masked_fill(without, 0)
            first_targets = batch["prompt_lengths"].tolist()
        if config.pooled_voice:
            voices = [voice_of(crop, config, first_target=first) for crop, first in zip(crops, first_targets, strict=True)]
            batch.update(voice_tensors(voices))
        return batch

    def histograms(
        self, *, codes: Tensor, lengths: Tensor, prompt_lengths: Tensor | None = None, **units: Tensor
    ) -> dict[str, list[Tensor]]:
        valid = valid_mask(lengths, codes.shape[1])
        if prompt_lengths is not None:
            valid &= ~valid_mask(prompt_lengths, codes.shape[1])
        levels = [code_counts(codes, valid, level=level, size=self.codebook_size) for level in range(self.num_coarse)]
        return {self.name: levels}

    def loss(self, **tensors: Tensor) -> LossTerm:
        """The next code's; the arguments are those of ``hidden``."""
        term, drafts = self._terms(**tensors)
        return descending_too(term, drafts, weight=self.draft_weight)

    def validation_terms(self, **tensors: Tensor) -> dict[str, LossTerm]:
        """``coarse``, and of draft heads ``coarse_draft1`` and so on."""
        term, drafts = self._terms(**tensors)
        return {self.name: term, **draft_terms(self.name, drafts)}

    def _terms(self, **tensors: Tensor) -> tuple[LossTerm, list[LossTerm]]:
        """Of the next token, and of every draft head."""
        hidden, tokens, valid = self.hidden(**tensors)
        targets = tokens % self.codebook_size
        term = loss_term(self.level_logits(hidden), targets, valid)
        if self.drafts is None:
            return term, []
        return term, self.drafts.terms(hidden, tokens, valid, embed=self.embed, level_logits=self._of_levels, targets=targets)

    def predictions(self, **tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``(B, T * Q', codebook_size)`` of the flattened codes, these codes, and which of them are targets."""
        hidden, tokens, valid = self.hidden(**tensors)
        return self.level_logits(hidden), tokens % self.codebook_size, valid

    def token_nats(self, **tensors: Tensor) -> Tensor:
        return nats_of_each(*self.predictions(**tensors))

    def token_ends(self, *, codes: Tensor, lengths: Tensor, **others: Tensor | None) -> Tensor:
        frame = torch.arange(codes.shape[1] * self.num_coarse, device=codes.device) // self.num_coarse + 1
        return frame.clamp(max=lengths[:, None]) / lengths[:, None].double()

    def hidden(
        self,
        *,
        codes: Tensor,
        lengths: Tensor,
        units: Tensor | None = None,
        unit_lengths: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        voice: Tensor | None = None,
        voice_lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What predicts each token ``(B, T * Q', D)``, the tokens ``(B, T * Q')``, and which of them are targets.

        ``codes (B, T, Q)``, ``lengths (B,)`` frames; with units ``(B, T_u)``, or with ``prompt_lengths (B,)`` frames, no targets.
        ``voice (B, T_v, Q)`` are codes from elsewhere, of a model with a pooled voice.
        """
        tokens = self.flatten(torch.where(valid_mask(lengths, codes.shape[1])[..., None], codes, 0))  # (B, T * Q')
        token_lengths = lengths * self.num_coarse
        valid = valid_mask(token_lengths, tokens.shape[1])
        voices = None if self.pooled_voice is None else self.pooled_voice(voice, voice_lengths)[:, None]  # (B, 1, D)
        if self.conditioning == "prefix":
            assert units is not None and unit_lengths is not None
            hidden = self._after_units(tokens, units, unit_lengths, voices)
        else:
            inputs = torch.cat([tokens.new_full((len(tokens), 1), self.start), tokens[:, :-1]], 1)
            x = self.embed(inputs) + self._level_of(torch.arange(tokens.shape[1], device=tokens.device))
            if voices is not None:
                x = x + voices
            attend = Attend.causally()
            if self.unit_window is not None:
                assert units is not None and unit_lengths is not None
                x = x + self.unit_window(units, unit_lengths, codes.shape[1]).repeat_interleave(self.num_coarse, 1)
            elif prompt_lengths is not None:
                prompt = prompt_lengths * self.num_coarse
                attend = Attend.after_prompt(prompt, tokens.shape[1])
                valid = valid & ~valid_mask(prompt, tokens.shape[1])
            hidden = self.transformer(x, attend)
        return hidden, tokens, valid

    @property
    def num_drafts(self) -> int:
        return 0 if self.drafts is None else self.drafts.number

    def flatten(self, codes: Tensor) -> Tensor:
        """Codes ``(..., T, Q)`` -> tokens ``(..., T * Q')`` of the first levels, each level in its own range."""
        offsets = torch.arange(self.num_coarse, device=codes.device) * self.codebook_size
        return (codes[..., : self.num_coarse] + offsets).flatten(-2)

    def level_logits(self, hidden: Tensor) -> Tensor:
        """Hidden ``(B, T * Q', D)`` -> logits ``(B, T * Q', codebook_size)``, each position over its own level's codes."""
        return self._of_levels(self.head(hidden), 0)

    def _of_levels(self, logits: Tensor, ahead: int) -> Tensor:
        """Logits ``(B, T, num_codes)`` -> ``(B, T, codebook_size)``: position ``i`` over the codes of token ``i + ahead``'s level."""
        if self.num_coarse == 1:
            return logits
        place = torch.arange(logits.shape[1], device=logits.device)
        logits = logits.view(*logits.shape[:2], self.num_coarse, self.codebook_size)
        return logits[:, place, (place + ahead) % self.num_coarse]

    def _level_of(self, positions: Tensor) -> Tensor:
        return self.level_embed(positions % self.num_coarse)

    def _after_units(self, tokens: Tensor, units: Tensor, unit_lengths: Tensor, voices: Tensor | None) -> Tensor:
        """Rows of units, separator, codes without gaps; hidden of the positions that predict codes ``(B, T * Q', D)``."""
        length = tokens.shape[1]
        place = torch.arange(units.shape[1] + length, device=tokens.device) - unit_lengths[:, None]  # (B, S), 0 at the separator
        codes = torch.cat([tokens.new_full((len(tokens), 1), self.start), tokens], 1)
        padded_units = torch.cat([units, units.new_zeros(len(units), 1)], 1) + self.first_unit
        unit_index = (place + unit_lengths[:, None]).clamp(max=units.shape[1])
        sequence = torch.where(place < 0, padded_units.gather(1, unit_index), codes.gather(1, place.clamp(0, length)))
        x = self.embed(sequence) + self._level_of(place.clamp(min=0)) * (place >= 0)[..., None]
        if voices is not None:
            x = x + voices
        hidden = self.transformer(x, Attend.causally())
        index = unit_lengths[:, None] + torch.arange(length, device=tokens.device)
        return hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[2]))

    def prefix_inputs(self, units: Tensor, tokens: Tensor) -> Tensor:
        """Embedded units, separator and code tokens of one row ``(S, D)``."""
        sequence = torch.cat([units + self.first_unit, units.new_tensor([self.start]), tokens])
        positions = torch.arange(len(tokens) + 1, device=tokens.device)
        return self.embed(sequence) + torch.cat(
            [self.embed.weight.new_zeros(len(units), self.embed.embedding_dim), self._level_of(positions)]
        )

    def generate(
        self,
        prompts: Sequence[Tensor],
        *,
        num_frames: Sequence[int],
        units: Sequence[Tensor] | None,
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
        voices: Sequence[Tensor] | None = None,
        at_once: int | None = None,
    ) -> list[Tensor]:
        """Continue prompt codes ``(T_b, Q')`` to ``num_frames`` in all, along ``units (T_u,)`` of all that -> codes ``(num_frames_b, Q')``.

        ``window`` counts frames; the number of frames is given, so there is no end token.  ``voices (T_v, Q)`` are the codes from which
        a model with a pooled voice takes it.  With guidance, each row is decoded beside itself without units, prompt and voice.
        ``at_once`` rows are decoded together, and one that ends makes room for the next; all, if None.
        """
        window = self.periods.window(window)
        new_frames = [total - len(prompt) for prompt, total in zip(prompts, num_frames, strict=True)]
        voices = [prompt[:0] for prompt in prompts] if voices is None else voices
        rows, units_of_rows, together = list(prompts), units, 1
        if sampling.is_guided:
            rows, voices, seeds, new_frames = beside_none(prompts), beside_none(voices), [*seeds, *seeds], new_frames * 2
            units_of_rows, together = None if units is None else beside_none(units), 2
        around = None
        if self.unit_window is not None:
            assert units_of_rows is not None
            around = AroundAll(self.unit_window, units_of_rows, max(num_frames), seats=together * num_seats(len(prompts), at_once))
        decoding = _Continuation(self, units_of_rows, around, window, voices)
        request = DecodingRequest(
            prompts=[self.flatten(prompt) for prompt in rows],
            max_new=[frames * self.num_coarse for frames in new_frames],
            seeds=seeds,
            sampling=sampling,
            window=window * self.num_coarse,
            at_once=at_once,
            together=together,
        )
        drawn = decode_drafting(decoding, request)[: len(prompts)]
        new = [tokens.view(-1, self.num_coarse) % self.codebook_size for tokens in drawn]
        return [torch.cat([prompt[:, : self.num_coarse], rest]) for prompt, rest in zip(prompts, new, strict=True)]

    def read_ahead(self, ahead: Ahead, codes: Tensor, units: Tensor) -> None:
        """The codes of frames around which all units are known; nothing with units before codes, or where the prompt sees its end."""
        if self.unit_window is None or self.pooled_voice is not None:
            return
        known = self.periods.frames_before(len(units) - self.reach)
        inputs = min(known * self.num_coarse, len(codes) * self.num_coarse + 1)
        if inputs > 0:
            around = AroundAll(self.unit_window, [units], known)
            tokens = self.flatten(codes)[: inputs - 1]
            window = _Continuation(self, [units], around, known, [codes[:0]]).window_inputs(0, 0, tokens)
            ahead.read(self.name, self.transformer, window)

    @torch.inference_mode()
    def stream(
        self,
        prompt: Tensor,
        *,
        num_frames: int,
        units: UnitFeed | None,
        sampling: Sampling,
        seed: int,
        window: int,
        voice: Tensor | None = None,
        ahead: ReadAhead | None = None,
    ) -> Iterator[Tensor]:
        """As ``generate`` of one row, while its units are still being made -> its new frames ``(n, Q')`` as soon as they are drawn.

        It ends with the units, or after ``num_frames`` in all.  ``ahead`` is what was read by ``read_ahead``; guidance, which has a row
        beside it, goes without.
        """
        window = self.periods.window(window)
        rows, voices, reader = [prompt], [prompt[:0] if voice is None else voice], None if units is None else units.reader(reach=self.reach)
        if sampling.is_guided:
            rows, voices = beside_none(rows), beside_none(voices)
        around = None if self.unit_window is None or reader is None else AroundFed(self.unit_window, reader)
        decoding = _Continuation(self, reader, around, window, voices)
        request = DecodingRequest(
            prompts=[self.flatten(row) for row in rows],
            max_new=[(num_frames - len(prompt)) * self.num_coarse] * len(rows),
            seeds=[seed] * len(rows),
            sampling=sampling,
            window=window * self.num_coarse,
            forgets=True,
            ahead=None if sampling.is_guided else ahead,
        )
        rest = prompt.new_zeros(0)

        def whole_frames(tokens: Tensor) -> Tensor:
            nonlocal rest
            tokens = torch.cat([rest, tokens])
            whole = len(tokens) // self.num_coarse * self.num_coarse
            rest = tokens[whole:]
            return tokens[:whole].view(-1, self.num_coarse) % self.codebook_size

        yield from frames_as_drawn(decoder_of(decoding, request), reader, whole_frames, tokens_a_frame=self.num_coarse)


def _prompt_share(crop: CroppedTokens, settings: ExampleSettings) -> float:
    """Of a crop without units; by the example itself, never by its batch mates."""
    least, most = settings.config.prompt_share, settings.prompt_share_to
    return least + crop.chance("share") * (most - least) if most > least else least


class _Continuation(DraftingView):
    """CoarseLM as the engine sees it; tokens are flattened codes, each level in its own range."""

    end_token = None
    token_shape = ()

    def __init__(
        self, model: CoarseLM, units: Sequence[Tensor] | UnitReader | None, around: Around | None, window: int, voices: Sequence[Tensor]
    ) -> None:
        self.model, self.transformer, self.units, self.around = model, model.transformer, units, around
        self.window = window
        self.voices = None if model.pooled_voice is None else model.pooled_voice.of_rows(voices)  # (B, D)

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        x = self._window_inputs(row, start, tokens)
        return x if self.voices is None else x + self.voices[row]

    def _window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        model = self.model
        if model.conditioning == "prefix":
            first = start // model.num_coarse
            return model.prefix_inputs(self._units_of_window(row, first, first + self.window), tokens)
        inputs = torch.cat([tokens.new_tensor([model.start]), tokens])
        return model.embed(inputs) + self._place(row, torch.arange(start, start + len(inputs), device=tokens.device))

    def _units_of_window(self, row: int, start: int, stop: int) -> Tensor:
        if isinstance(self.units, UnitReader):
            units = self.units.of_frames(start, stop)
            return units[:0] if row else units
        assert self.units is not None
        return self.units[row][self.model.periods.units_of_frames(start, stop)]

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        following = positions + 1
        x = self.model.embed(tokens) + self.model.level_embed(following % self.model.num_coarse)
        if self.around is not None:
            x = x + self.around.of_rows(torch.div(following, self.model.num_coarse, rounding_mode="floor"), seats)
        return x if self.voices is None else x + self.voices[seats.index]

    def tables(self, seats: Seats) -> TokenTables | None:
        if not (self.around is None or isinstance(self.around, AroundAll)):
            return None
        model, size = self.model, self.model.codebook_size
        first = torch.arange(model.num_coarse) * size
        return TokenTables(
            head=model.head.weight, bias=model.head.bias, inputs=model.embed.weight, places=model.level_embed.weight,
            allowed=torch.stack([first, first + size], 1), around=None if self.around is None else self.around.of_seats(seats),
            voices=None if self.voices is None else self.voices[seats.index],
        )  # fmt: skip

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        logits = self.possible(guided(self.scores(hidden), sampling), known.positions)
        return agreed(draw_token(logits, known, sampling, noise, end_token=None, tokens_a_frame=self.tokens_a_frame), sampling)

    @property
    def tokens_a_frame(self) -> int:
        return self.model.num_coarse

    def possible(self, logits: Tensor, positions: Tensor) -> Tensor:
        if self.model.num_coarse == 1:
            return logits
        level = torch.arange(logits.shape[1], device=logits.device) // self.model.codebook_size
        return logits.masked_fill(level != (positions % self.model.num_coarse)[:, None], -torch.inf)

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        return Attend.causally() if self.model.conditioning else Attend.after_prompt(lengths - 1, max_length)

    def window_start(self, num_tokens: int, window: int) -> int:
        """Whole periods, so that units and frames of a window begin together."""
        step = self.model.num_coarse * self.model.periods.frames
        return ceil_division(num_tokens - window // 2, step) * step

    def _place(self, row: int, positions: Tensor) -> Tensor:
        place = self.model.level_embed(positions % self.model.num_coarse)
        if self.around is None:
            return place
        return place + self.around.of_row(row, torch.div(positions, self.model.num_coarse, rounding_mode="floor"))
