"""From wav to wav: tokenizers, AudioLM and decoding behind one call (AudioLM, Borsos et al. 2022, figure 2).

    pipeline = Pipeline.from_pretrained()
    [continuation] = pipeline.continue_audio(wav, 16000, prompt_seconds=3, max_seconds=10, seed=0)

Nothing of the training is needed here, and no manifests.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from valle.audio import Waveform, resample
from valle.decoding.read_ahead import Ahead
from valle.decoding.steps import verify_steps
from valle.device import find_device, find_dtype
from valle.errors import UserError
from valle.given_audio import PromptError, Recording, as_rows, as_seeds, as_waveform
from valle.inference.continuation import Continuation, ContinueSettings
from valle.inference.continuing import Continuer
from valle.inference.drafting import with_drafts
from valle.inference.joint import Joint
from valle.inference.live import BLOCK_SECONDS, SECOND_BLOCK_SECONDS, SPARE_SECONDS, LiveContinuation, LiveNotes, frames_until, new_sound
from valle.inference.prompt_stream import HeardPrompt, PromptStream
from valle.inference.prompts import PromptReader, RowPrompt
from valle.inference.recordings import Recordings
from valle.measures.level import active_level, hold_level, with_gain
from valle.models.dropping import refuse_guidance
from valle.models.folder import refuse_other_content, smallest_dtype
from valle.models.hub import find_model, upload_model
from valle.models.released import Released, load_released, save_released
from valle.modules.transformer import Engine, Transformer
from valle.timeline import ceil_division
from valle.tokenizers.stream import decode_pieces, decoder_reach

BUNDLED_MODEL = Path(__file__).parent.parent / "assets" / "audio-lm"
READ_SECONDS = 0.3  # of a prompt that comes in, which the stages read at once: less would take more time in all
FADE_SECONDS = 0.02  # over which the prompt's own samples give way to generated ones


class Pipeline:
    """A released model, ready to continue audio.  Sound longer than a stage was trained on is made by windows that slide.

    >>> from valle import Pipeline, read_audio
    >>> wav, sample_rate = read_audio("hello.wav")
    >>> pipeline = Pipeline.from_pretrained()  # or a folder, or organisation/model on the hub
    >>> [one] = pipeline.continue_audio(wav, sample_rate, prompt_seconds=3, max_seconds=2, seed=1)
    >>> several = pipeline.continue_audio([wav, wav[:sample_rate]], sample_rate, max_seconds=1, seed=[1, 2])
    >>> pipeline.save_pretrained("released")
    """

    def __init__(
        self,
        released: Released,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str | None = None,
        engine: Engine = "auto",
    ) -> None:
        self.released = released
        self.model, self.timeline = released.model.eval(), released.timeline
        self.acoustic = released.acoustic.eval()
        self.semantic = released.semantic.eval() if released.semantic is not None else None
        self.reader = PromptReader(self.acoustic, self.semantic, self.timeline, self.model.config.num_quantizers)
        self.continuer = Continuer(self.model, self.timeline, released.trained_seconds)
        for transformer in self._stepping().values():
            transformer.stepping.engine = engine
        self.to(device, dtype)
        if (self.model.unit_stage is None) != (self.semantic is None):
            wanted, found = ("codes only", "units as well") if self.model.unit_stage is None else ("units", "none")
            raise UserError(f"expected the tokenizers that the model was trained with ({wanted}), found {found}; export it again")

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str = "cpu",
        engine: Engine = "auto",
        revision: str | None = None,
    ) -> Pipeline:
        """The released model in the folder ``name``, or on the hub by the name ``org/name``; without one, the bundled model.

        ``dtype`` is that of the language models, float32 if not given; with int8, their steps read weights rounded to eight bits and
        all else is float32.  Tokenizers always compute in float32, so that tokens stay the same.  ``device`` is cpu, cuda, mps or
        auto.  ``engine`` takes the steps: torch, native (numba, on CPUs), or auto, which takes the faster of the two.  ``revision`` is a
        branch, tag or commit on the hub.  Only the released folder's own files are fetched, and none is unpickled.  Raises ``UserError``
        where nothing usable is found.
        """
        released = load_released(BUNDLED_MODEL if name is None else find_model(name, revision=revision))
        return cls(released, device=device, dtype=dtype, engine=engine)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | str | None = None) -> None:
        """Write a released folder, from which ``from_pretrained`` makes the same pipeline; an older released model is replaced.

        Without ``dtype``, weights that float16 holds exactly are stored so, and others as they are.
        """
        refuse_other_content(Path(folder))
        stored = smallest_dtype(self.model.state_dict()) if dtype is None else find_dtype(dtype)
        save_released(self.released, Path(folder), dtype=stored)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = False,
        dtype: torch.dtype | str | None = None,
        commit_message: str = "Upload model",
        token: str | None = None,
    ) -> str:
        """Put the files of ``save_pretrained`` into the hub's model ``org/name``, which is made if it is not there -> its address.

        ``token`` is yours if you are not logged in.  Raises ``UserError`` where the hub refuses or cannot be reached.
        """
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            self.save_pretrained(folder, dtype=dtype)
            return upload_model(folder, name, private=private, message=commit_message, token=token)

    def to(self, device: torch.device | str | torch.dtype | None = None, dtype: torch.dtype | str | None = None) -> Pipeline:
        """Move everything to ``device`` and the language models to ``dtype``; as in torch, a dtype may stand alone -> itself."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None:
            is_int8 = str(dtype).removeprefix("torch.") == "int8"
            self.model.to(torch.float32 if is_int8 else find_dtype(dtype))
            for transformer in self._stepping().values():
                transformer.stepping.weights = "int8" if is_int8 else "own"
        if device is not None:
            self.device = find_device(str(device))
            for part in (self.model, self.acoustic, self.semantic):
                if part is not None:
                    part.to(self.device)
        for transformer in self._stepping().values():
            verify_steps(transformer)
        return self

    @property
    def steps_taken_by(self) -> dict[str, str]:
        """What took the cached steps of the last continuation, by stage: ``native (float32, 1 thread)``, or torch, and why."""
        return {name: transformer.stepping.ran for name, transformer in self._stepping().items() if transformer.stepping.ran}

    def _stepping(self) -> dict[str, Transformer]:
        """The transformers that are decoded step by step, by the name of their stage."""
        parts = {name: part for name, part in self.model.named_modules() if isinstance(part, Transformer)}
        return {name.removesuffix(".transformer"): part for name, part in parts.items() if part.config.num_levels == 0}

    @property
    def dtype(self) -> torch.dtype:
        """Of the language models."""
        return next(self.model.parameters()).dtype

    @property
    def sample_rate(self) -> int:
        """Of what comes out, Hz."""
        return self.acoustic.sample_rate

    def continue_audio(
        self,
        wav: Recording | Sequence[Recording],
        sample_rate: int,
        *,
        seed: SupportsIndex | Sequence[SupportsIndex] = 0,
        settings: ContinueSettings | None = None,
        prompt_seconds: float | None = None,
        max_seconds: float | None = None,
        min_seconds: float | None = None,
        watermark: bool | None = None,
    ) -> list[Continuation]:
        """Continue one recording ``(T,)`` or several, each after its first ``prompt_seconds`` (all of a shorter one).

        Samples are floats about -1..1, or integers, which are scaled by their type; ``(1, T)`` is mono, several channels are refused.
        What is given replaces what ``settings`` say; what is generated carries a watermark unless ``watermark`` is False.  A row depends on
        its own recording and seed only; one ``seed`` is every row's.  Raises ``PromptError``.
        """
        settings = self._settings(
            settings, prompt_seconds=prompt_seconds, max_seconds=max_seconds, min_seconds=min_seconds, watermark=watermark
        )
        recordings, seeds = self._rows(wav, sample_rate, seed)
        return list(self._each(recordings, seeds, settings, at_once=None))

    def continue_each(
        self,
        wavs: Sequence[Recording],
        sample_rate: int,
        *,
        seed: SupportsIndex | Sequence[SupportsIndex] = 0,
        settings: ContinueSettings | None = None,
        batch_size: int = 8,
    ) -> Iterator[Continuation]:
        """As ``continue_audio``, for thousands of recordings: every result in its turn, as soon as its sound is there.

        At each stage ``batch_size`` rows are decoded together, and one that ends makes room for the next; the sound of one row is made
        at a time.  Of all rows, tokens alone are in memory: ``wavs`` is asked for each recording twice, so it may read them from files
        (``Recordings``).  A row's result is the same with any ``batch_size``.  Raises ``PromptError`` before the first result.

        >>> from valle import Pipeline, read_audio
        >>> wav, sample_rate = read_audio("hello.wav")
        >>> for one in Pipeline.from_pretrained().continue_each([wav, wav[8000:]], sample_rate, seed=[1, 2], batch_size=1):
        ...     print(one.seed)
        1
        2
        """
        if batch_size < 1:
            raise UserError(f"the batch size must be 1 or more, found {batch_size}")
        settings, seeds = self._settings(settings), as_seeds(seed, len(wavs))
        recordings = Recordings(lambda number: self._at_own_rate(as_waveform(wavs[number]), sample_rate), count=len(wavs))
        return self._each(recordings, seeds, settings, at_once=batch_size)

    @torch.inference_mode()
    def _each(
        self, recordings: Sequence[Waveform], seeds: Sequence[int], settings: ContinueSettings, *, at_once: int | None
    ) -> Iterator[Continuation]:
        """All rows through one stage after another, then the sound of each."""
        if settings.mode == "resynthesize":
            for recording, seed in zip(recordings, seeds, strict=True):
                yield self._resynthesized(recording, seed, settings)
        elif recordings:
            ask = self._asked_to_speak if settings.mode == "acoustic" else self._asked_to_continue
            prompts, units, most = ask(recordings, seeds, settings, at_once)
            codes = self.continuer.codes(
                [prompt.tokens for prompt in prompts], units=units, sampling=settings.sampling, at_once=at_once,
                num_frames=[ceil_division(total, self.acoustic.hop_length) for total in most], block_seconds=settings.block_seconds,
                first_block_seconds=settings.first_block_seconds,
            )  # fmt: skip
            for row, prompt in enumerate(prompts):
                own = recordings[row][: prompt.samples]
                yield self._joined(prompt, own, codes[row], None if units is None else units[row], most[row], settings)

    def stream(
        self,
        wav: Recording | Iterable[Recording],
        sample_rate: int,
        *,
        seed: SupportsIndex = 0,
        settings: ContinueSettings | None = None,
        prompt_seconds: float | None = None,
        max_seconds: float | None = None,
        min_seconds: float | None = None,
        chunk_seconds: float = 0.1,
        watermark: bool | None = None,
    ) -> LiveContinuation:
        """What ``continue_audio`` has after the prompt, in chunks of about ``chunk_seconds`` while later ones are still to be made.

        ``wav`` is one recording ``(T,)``, or its pieces of any size as they come in, whose tokens are then made at once; no more of them
        is asked for than the prompt.  Stages that look ahead work in blocks: the same as offline with the stream's own ``settings``.
        Of pieces, the gain is that of ``LiveGain``, fixed in the first second of speech.  Memory does not grow with what was made.
        Raises ``PromptError``, of pieces when the first chunk is asked for.

        >>> from valle import Pipeline, read_audio
        >>> with Pipeline.from_pretrained().stream(*read_audio("hello.wav"), max_seconds=1) as chunks:
        ...     print(sum(len(chunk) for chunk in chunks) / chunks.sample_rate)
        1.0
        """
        settings = self._settings(
            settings, prompt_seconds=prompt_seconds, max_seconds=max_seconds, min_seconds=min_seconds, watermark=watermark
        )
        if settings.mode != "continue":
            raise UserError(f"a stream continues its prompt, found the mode {settings.mode}; use continue_audio")
        if not 0 < chunk_seconds < float("inf"):
            raise UserError(f"a chunk must last more than 0 seconds, found {chunk_seconds:g}; raise --chunk-seconds")
        decoder_reach(self.acoustic)  # refuses a codec that cannot, before anything is read
        [row_seed] = as_seeds(seed, 1)
        notes = LiveNotes(settings)
        given = self._rows(wav, sample_rate, seed)[0][0] if isinstance(wav, (np.ndarray, Tensor)) else wav
        chunks = self._live(given, sample_rate, row_seed, notes, self._samples(chunk_seconds))
        return LiveContinuation(chunks, notes, sample_rate=self.sample_rate, seed=row_seed)

    @torch.inference_mode()
    def speak_units(
        self, units: Tensor, voice: Recording, sample_rate: int, *, prompt_seconds: float = 3.0, seed: int = 0,
        settings: ContinueSettings | None = None,
    ) -> Waveform:  # fmt: skip
        """The sound of ``units (T_u,)`` in the voice of the first ``prompt_seconds`` of a recording, without the recording itself.

        A recording that is shorter is repeated up to that length (AudioPaLM, Rubenstein et al. 2023, 3.4).
        """
        if self.semantic is None:
            raise UserError("this model knows no units, so it cannot speak them; use one trained on tokens with units")
        settings = self._settings(settings or ContinueSettings(mode="acoustic"))
        [row], [row_seed] = self._rows(voice, sample_rate, seed)
        most = self._samples(prompt_seconds)
        self.reader.refuse_too_short(row)
        wav = np.tile(row, ceil_division(most, len(row)))[:most]
        prompt = self.reader.prompt(wav, row_seed, self.reader.gain_db(wav, settings))
        per_period, known = self.timeline.units_per_period, prompt.tokens.units
        padded = torch.cat([units, units[-1:].expand(-len(units) % per_period)]).to(known.device)
        [codes] = self.continuer.codes(
            [prompt.tokens], units=[torch.cat([known, padded])], num_frames=[0], sampling=settings.sampling,
            block_seconds=settings.block_seconds, first_block_seconds=settings.first_block_seconds,
        )  # fmt: skip
        first = len(prompt.tokens.codes) * self.acoustic.hop_length
        sound = self.decode(codes)
        if prompt.gain_db != 0:
            sound = self._at_level_of(wav[:first], with_gain(sound, -prompt.gain_db))
        sound = settings.marking(self.sample_rate).next(sound[first:])
        return sound[: self._samples(len(units) / float(self.semantic.identity.grid.rate))]

    @torch.inference_mode()
    def _live(
        self, wav: Waveform | Iterable[Recording], sample_rate: int, seed: int, notes: LiveNotes, chunk: int
    ) -> Generator[Waveform, None, None]:
        settings, ahead = notes.settings, None
        if isinstance(wav, np.ndarray):
            notes.prompt_ended = time.perf_counter()
            own = wav[: self._samples(settings.prompt_seconds)]
            prompt = self.reader.prompt(own, seed, self.reader.gain_db(own, settings))
        else:
            ahead = self.continuer.ahead(seed)
            heard = self._heard(wav, sample_rate, settings, notes, ahead)
            own, prompt = heard.wav, self.reader.of_heard(heard, seed)
        if settings.block_seconds is None and self.model.acoustic.looks_ahead:
            reach = len(own) + chunk + self._samples(SPARE_SECONDS)
            notes.settings = settings = self._in_blocks(settings, len(prompt.tokens.codes), reach)
        notes.gain_db, most = prompt.gain_db, self._samples(settings.max_seconds)
        codes = self.continuer.stream(
            prompt.tokens, shortest=self._periods(prompt, settings.least_seconds), longest=self._periods(prompt, settings.max_seconds),
            num_frames=ceil_division(len(own) + most, self.acoustic.hop_length), sampling=settings.sampling,
            block_seconds=settings.block_seconds, first_block_seconds=settings.first_block_seconds, ahead=ahead,
        )  # fmt: skip
        yield from new_sound(
            self.acoustic, own, prompt.tokens.codes, codes, notes, fade=self._samples(FADE_SECONDS), most=most, chunk=chunk,
            marking=settings.marking(self.sample_rate),
        )  # fmt: skip

    def _in_blocks(self, settings: ContinueSettings, known: int, wanted: int) -> ContinueSettings:
        """``settings`` with blocks for a stage that looks ahead: behind ``known`` frames, the first reaches as far as sample ``wanted``."""
        missing = max(1, frames_until(self.acoustic, wanted) - known)
        first = ceil_division(missing, self.timeline.frames_per_period) * self.timeline.period
        return replace(settings, block_seconds=BLOCK_SECONDS, first_block_seconds=(float(first), SECOND_BLOCK_SECONDS))

    def _heard(
        self, pieces: Iterable[Recording], sample_rate: int, settings: ContinueSettings, notes: LiveNotes, ahead: Ahead
    ) -> HeardPrompt:
        """A prompt that comes in pieces, which the stages read as it does."""
        stream = PromptStream(
            self.acoustic, self.semantic, sample_rate=sample_rate, most=self._samples(settings.prompt_seconds),
            at_speech_level=self.reader.level(settings) == "speech",
        )  # fmt: skip
        read, at_once = 0, ceil(READ_SECONDS * self.acoustic.sample_rate / self.acoustic.hop_length)  # frames
        for piece in pieces:
            stream.push(piece)
            if stream.is_full:
                break
            if len(stream.codes) >= read + at_once:
                read = len(stream.codes)
                self.continuer.read_ahead(ahead, stream.codes[:, : self.model.config.num_quantizers], stream.units)
        notes.prompt_ended = time.perf_counter()
        return stream.finish()

    def _settings(self, settings: ContinueSettings | None, **given: Any) -> ContinueSettings:
        """``settings`` with what was ``given`` beside them, for this model."""
        settings = replace(settings or ContinueSettings(), **{name: value for name, value in given.items() if value is not None})
        refuse_guidance(self.model.config, self.model.stages(), settings.sampling)
        return replace(settings, sampling=with_drafts(self.model, settings.sampling, settings.drafts))

    def _asked_to_continue(
        self, recordings: Sequence[Waveform], seeds: Sequence[int], settings: ContinueSettings, at_once: int | None
    ) -> tuple[list[RowPrompt], list[Tensor] | None, list[int]]:
        """Prompts, the units of the whole time (None for a model without units), and the most samples of every row."""
        cut, new = self._samples(settings.prompt_seconds), self._samples(settings.max_seconds)
        prompts = [
            self.reader.prompt(row[:cut], seed, self.reader.gain_db(row[:cut], settings))
            for row, seed in zip(recordings, seeds, strict=True)
        ]
        longest, shortest = (
            [self._periods(prompt, seconds) for prompt in prompts] for seconds in (settings.max_seconds, settings.least_seconds)
        )
        units = self.continuer.units(
            [prompt.tokens for prompt in prompts], shortest=shortest, longest=longest, sampling=settings.sampling, at_once=at_once
        )
        return prompts, units, [prompt.samples + new for prompt in prompts]

    def _asked_to_speak(
        self, recordings: Sequence[Waveform], seeds: Sequence[int], settings: ContinueSettings, at_once: int | None
    ) -> tuple[list[RowPrompt], list[Tensor], list[int]]:
        """The same with each recording's own units."""
        if self.semantic is None:
            raise UserError("this model knows no units, so it cannot speak from a recording's; use the mode continue or resynthesize")
        cut, new = self._samples(settings.prompt_seconds), self._samples(settings.max_seconds)
        per_period = self.timeline.units_per_period
        prompts, units, most = [], [], []
        for recording, seed in zip(recordings, seeds, strict=True):
            if len(recording) <= cut:
                found = len(recording) / self.sample_rate
                raise PromptError(
                    f"expected a recording longer than its prompt of {settings.prompt_seconds:g} s, found {found:.2f} s; "
                    "give a longer one or a smaller --prompt-seconds (0 for no prompt)"
                )
            gain_db = self.reader.gain_db(recording[:cut] if cut else recording[:new], settings)
            prompts.append(
                self.reader.prompt(recording[:cut], seed, gain_db) if cut else self.reader.no_prompt(seed, gain_db, device=self.device)
            )
            true = self.reader.units(with_gain(recording[: cut + new], gain_db))
            units.append(torch.cat([true, true[-1:].expand(-len(true) % per_period)]))  # whole periods
            most.append(min(len(recording), cut + new))
        return prompts, units, most

    def _resynthesized(self, wav: Waveform, seed: int, settings: ContinueSettings) -> Continuation:
        if len(wav) == 0:
            raise PromptError("expected sound to resynthesize, found a recording of 0 s; give a longer one")
        codes = self.reader.codes(wav)
        generated = settings.marking(self.sample_rate).next(self.decode(codes)[: len(wav)])
        return Continuation(
            wav=generated, sample_rate=self.sample_rate, prompt_samples=0, own_samples=0, seed=seed,
            codes=codes.cpu(), units=None if self.semantic is None else self.reader.units(wav).cpu(),
        )  # fmt: skip

    def _rows(self, wav: Recording | Sequence[Recording], sample_rate: int, seed: Any) -> tuple[list[Waveform], list[int]]:
        """Recordings as mono float32 at the codec's rate, and a seed for each."""
        if sample_rate <= 0:
            raise PromptError(f"expected a sample rate above 0 Hz, found {sample_rate}")
        rows = [self._at_own_rate(samples, sample_rate) for samples in as_rows(wav)]
        return rows, as_seeds(seed, len(rows))

    def _at_own_rate(self, wav: Waveform, sample_rate: int) -> Waveform:
        return resample(wav, sample_rate, self.sample_rate) if len(wav) else wav

    def _joined(
        self, prompt: RowPrompt, own: Waveform, codes: Tensor, units: Tensor | None, most: int, settings: ContinueSettings
    ) -> Continuation:
        """The prompt's ``own`` samples as far as its tokens were kept, a short crossfade, then what was generated, ``most`` in all."""
        generated = self.decode(codes)[:most]
        if prompt.gain_db != 0:
            generated = self._at_level_of(own, with_gain(generated, -prompt.gain_db))
        known = len(prompt.tokens.codes) * self.acoustic.hop_length
        joint = Joint.after(own, known=known, fade=self._samples(FADE_SECONDS))
        generated = settings.marking(self.sample_rate).next(generated[joint.own :])
        return Continuation(
            wav=joint.join(own, generated), sample_rate=self.sample_rate, seed=prompt.tokens.seed,
            prompt_samples=len(own), own_samples=joint.own, codes=codes.cpu(), units=None if units is None else units.cpu(),
            gain_db=prompt.gain_db,
        )  # fmt: skip

    def _at_level_of(self, prompt: Waveform, generated: Waveform) -> Waveform:
        """What was generated, prompt included, whose new sound is kept from drifting from the prompt's level."""
        level = active_level(prompt, self.sample_rate)
        if level is not None:
            new = hold_level(generated[len(prompt) :], self.sample_rate, level)
            generated = np.concatenate([generated[: len(prompt)], new])
        return generated.clip(-1, 1)

    def _periods(self, prompt: RowPrompt, seconds: float) -> int:
        """Periods that cover the prompt and ``seconds`` more."""
        return ceil(Fraction(prompt.samples + self._samples(seconds), self.sample_rate) / self.timeline.period)

    def _samples(self, seconds: float) -> int:
        return round(seconds * self.sample_rate)

    def decode(self, codes: Tensor) -> Waveform:
        """Sound of ``codes (T_f, Q)``, within full scale."""
        sound: Waveform = np.concatenate([piece.float().clamp(-1, 1).cpu().numpy() for piece in decode_pieces(self.acoustic, codes)])
        return sound
