"""From wav to wav: tokenizers, AudioLM and decoding behind one object (AudioLM, Borsos et al. 2022, figure 2).

    pipeline = Pipeline.from_pretrained()
    [continuation] = pipeline.continue_audio(wav, 16000, prompt_seconds=3, max_seconds=10, seed=0)

Nothing of the training is needed here, and no manifests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from valle.audio import Samples, resample
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.ar_nar import AcousticRequest
from valle.models.audio_lm import AudioLM
from valle.models.released import Released, load_released
from valle.timeline import Grid, Timeline
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer

BUNDLED_MODEL = Path(__file__).parent / "assets" / "audio-lm"
CROSSFADE_SECONDS = 0.02
MIN_PROMPT_SECONDS = 0.5  # below it, what lies within the tokenizers' right context leaves nothing to go on from


class PromptError(UserError):
    """A prompt that cannot be continued."""


@dataclass(frozen=True, kw_only=True)
class StageSampling:
    """How each stage draws its tokens."""

    semantic: Sampling = field(default_factory=Sampling)
    coarse: Sampling = field(default_factory=Sampling)
    fine: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """What was made of one prompt."""

    wav: Samples  # (T,) float32 at sample_rate
    sample_rate: int  # Hz, the codec's
    prompt_samples: int  # length of the prompt; what follows is new
    joint_samples: int  # up to here the samples are the prompt's own
    seed: int
    codes: Tensor  # (T_f, Q) int64, of the whole time
    units: Tensor | None  # (T_u,) int64, of the whole time

    @property
    def seconds(self) -> float:
        return len(self.wav) / self.sample_rate

    @property
    def prompt_seconds(self) -> float:
        return self.prompt_samples / self.sample_rate

    @property
    def generated_seconds(self) -> float:
        return (len(self.wav) - self.prompt_samples) / self.sample_rate


@dataclass(frozen=True)
class _Prompt:
    """A row on its way through the stages."""

    wav: Samples  # (T,) at the codec's rate: the prompt's own samples
    codes: Tensor  # (T_f, Q), those that the prompt's end does not change
    units: Tensor  # (T_u,), as many periods as the codes; empty without units
    seed: int


class Pipeline:
    """An AudioLM with its tokenizers: continues, resynthesizes, and speaks given units.

    ``trained_seconds`` holds the longest crop that each stage was trained on; longer sound is made by windows that slide.
    """

    def __init__(
        self,
        model: AudioLM,
        timeline: Timeline,
        acoustic: AcousticTokenizer,
        semantic: SemanticTokenizer | None,
        trained_seconds: dict[str, float],
    ) -> None:
        if (model.semantic is None) != (semantic is None):
            has, found = ("units", "none") if semantic is None else ("codes only", semantic.name)
            raise UserError(f"expected the tokenizers that the model was trained with: it has {has}, found {found} for units")
        self.model, self.timeline = model.eval(), timeline
        self.acoustic, self.semantic = acoustic.eval(), semantic.eval() if semantic is not None else None
        self.trained_seconds = trained_seconds

    @classmethod
    def from_pretrained(cls, folder: Path | str | None = None, *, device: torch.device | str = "cpu") -> Pipeline:
        """The released model in ``folder``; the bundled one without it."""
        return cls.from_released(load_released(Path(folder) if folder is not None else BUNDLED_MODEL)).to(device)

    @classmethod
    def from_released(cls, released: Released) -> Pipeline:
        return cls(released.model, released.timeline, released.acoustic, released.semantic, released.trained_seconds)

    def to(self, device: torch.device | str) -> Pipeline:
        """Move everything; returns itself."""
        for part in (self.model, self.acoustic, self.semantic):
            if part is not None:
                part.to(device)
        return self

    @property
    def sample_rate(self) -> int:
        """Of everything that comes out, Hz."""
        return self.acoustic.sample_rate

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def continue_audio(
        self,
        wav: Samples | Tensor | Sequence[Samples | Tensor],
        sample_rate: int,
        *,
        prompt_seconds: float = 3.0,
        max_seconds: float = 10.0,
        min_seconds: float = 1.0,
        seed: int | Sequence[int] = 0,
        sampling: StageSampling | None = None,
    ) -> list[Continuation]:
        """Go on after the first ``prompt_seconds`` of every recording ``(T,)`` (the whole of a shorter one).

        New audio lasts until the end of speech is drawn, ``min_seconds`` at least and ``max_seconds`` at most (exactly, without
        units).  A row depends on its own recording and seed only.  Raises ``PromptError``.
        """
        check_seconds(prompt_seconds=prompt_seconds, max_seconds=max_seconds, min_seconds=min_seconds)
        recordings, seeds = self._rows(wav, sample_rate, seed)
        cut = samples_of(prompt_seconds, self.sample_rate)
        prompts = [self._prompt(row[:cut], row_seed) for row, row_seed in zip(recordings, seeds, strict=True)]
        sampling = sampling or StageSampling()
        units = self._continue_units(prompts, max_seconds, min(min_seconds, max_seconds), sampling.semantic)
        most = samples_of(max_seconds, self.sample_rate)
        return self._speak(prompts, units, [len(prompt.wav) + most for prompt in prompts], sampling)

    def speak_units(
        self,
        wav: Samples | Tensor | Sequence[Samples | Tensor],
        sample_rate: int,
        *,
        prompt_seconds: float = 3.0,
        max_seconds: float = 10.0,
        seed: int | Sequence[int] = 0,
        sampling: StageSampling | None = None,
    ) -> list[Continuation]:
        """Keep the first ``prompt_seconds`` and generate the sound of the next ``max_seconds`` from their true units.

        With ``prompt_seconds=0`` all sound is generated, in a voice of the model's own choice.  Raises ``PromptError``.
        """
        check_seconds(prompt_seconds=max(prompt_seconds, MIN_PROMPT_SECONDS), max_seconds=max_seconds, min_seconds=0)
        if self.semantic is None:
            raise UserError("expected a model with units to generate sound from true units, found one of codes only; use --mode continue")
        recordings, seeds = self._rows(wav, sample_rate, seed)
        cut = samples_of(prompt_seconds, self.sample_rate)
        prompts, units, totals = [], [], []
        for recording, row_seed in zip(recordings, seeds, strict=True):
            row = recording[: cut + samples_of(max_seconds, self.sample_rate)]
            if len(row) <= cut:
                raise PromptError(
                    f"expected a recording longer than its prompt of {prompt_seconds:g} s, found {len(row) / self.sample_rate:.2f} s; "
                    "give a longer one or a shorter prompt (0 for none)"
                )
            prompts.append(self._prompt(row[:cut], row_seed) if cut else self._no_prompt(row_seed))
            every = self._encode_units(row)
            periods = -(-len(every) // self.timeline.units_per_period)
            units.append(torch.cat([every, every[-1:].expand(periods * self.timeline.units_per_period - len(every))]))
            totals.append(len(row))
        return self._speak(prompts, units, totals, sampling or StageSampling())

    def resynthesize(self, wav: Samples | Tensor | Sequence[Samples | Tensor], sample_rate: int) -> list[Continuation]:
        """The codec's round trip, all of it counted as generated."""
        recordings, seeds = self._rows(wav, sample_rate, 0)
        results = []
        for row, seed in zip(recordings, seeds, strict=True):
            codes = self._encode_codes(row)[:, : self.model.config.num_quantizers]
            decoded = self._decode(codes)[: len(row)]
            results.append(
                Continuation(
                    wav=decoded, sample_rate=self.sample_rate, prompt_samples=0, joint_samples=0, seed=seed, codes=codes.cpu(), units=None
                )
            )
        return results

    def _rows(self, wav: Samples | Tensor | Sequence[Samples | Tensor], sample_rate: int, seed: int | Sequence[int]) -> tuple[list[Samples], list[int]]:
        """Recordings as mono float32 at the codec's rate, and a seed for each."""
        given = list(wav) if isinstance(wav, (list, tuple)) else [wav]
        rows = []
        for recording in given:
            samples = np.asarray(recording.detach().cpu() if isinstance(recording, Tensor) else recording, dtype=np.float32)
            if samples.ndim != 1:
                raise PromptError(f"expected a mono recording of shape (T,), found {samples.shape}; average its channels first")
            if sample_rate <= 0:
                raise PromptError(f"expected a sample rate above 0 Hz, found {sample_rate}")
            if not np.isfinite(samples).all():
                raise PromptError("expected finite samples in the recording, found NaN or infinity; read it anew from its source")
            rows.append(resample(samples, sample_rate, self.sample_rate) if len(samples) else samples)
        seeds = [seed] * len(rows) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(rows):
            raise PromptError(f"expected one seed, or one for each of {len(rows)} recordings, found {len(seeds)}")
        return rows, seeds

    def _prompt(self, wav: Samples, seed: int) -> _Prompt:
        """Tokens of a prompt without those that what follows it would change (each tokenizer's right context)."""
        seconds = len(wav) / self.sample_rate
        if seconds < MIN_PROMPT_SECONDS:
            raise PromptError(f"expected a prompt of at least {MIN_PROMPT_SECONDS:g} s, found {seconds:.2f} s; give a longer recording")
        codes = self._encode_codes(wav)[: tokens_settled(len(wav), self.acoustic), : self.model.config.num_quantizers]
        units = codes.new_zeros(0)
        if self.semantic is not None:
            at_its_rate = resample(wav, self.sample_rate, self.semantic.sample_rate)
            units = self._encode_units(wav)[: tokens_settled(len(at_its_rate), self.semantic)]
        num_units, num_frames = self.timeline.align(len(units), len(codes))
        if num_frames == 0:
            raise PromptError(f"expected a prompt longer than the tokenizers' right context, found {seconds:.2f} s; give a longer one")
        return _Prompt(wav=wav, codes=codes[:num_frames], units=units[:num_units], seed=seed)

    def _no_prompt(self, seed: int) -> _Prompt:
        empty = torch.zeros(0, dtype=torch.int64, device=self.device)
        return _Prompt(wav=np.zeros(0, np.float32), codes=empty.new_zeros(0, self.model.config.num_quantizers), units=empty, seed=seed)

    def _continue_units(self, prompts: list[_Prompt], max_seconds: float, min_seconds: float, sampling: Sampling) -> list[Tensor] | None:
        """Units of the whole time of every row, in whole periods; None for a model without units."""
        if self.model.semantic is None:
            return None
        per_period = self.timeline.units_per_period
        longest = [self._periods(prompt, max_seconds) * per_period for prompt in prompts]
        shortest = [self._periods(prompt, min_seconds) * per_period for prompt in prompts]  # no end is drawn before the prompt's own
        with torch.inference_mode():
            new = self.model.semantic.generate(
                [prompt.units for prompt in prompts],
                max_new=[total - len(prompt.units) for total, prompt in zip(longest, prompts, strict=True)],
                min_new=[total - len(prompt.units) for total, prompt in zip(shortest, prompts, strict=True)],
                sampling=sampling,
                seeds=[stage_seed(prompt.seed, 0) for prompt in prompts],
                window=self._window("semantic", self.timeline.units or self.timeline.codes),
            )
        rows = [torch.cat([prompt.units, tokens]) for prompt, tokens in zip(prompts, new, strict=True)]
        return [row[: len(row) // per_period * per_period] for row in rows]

    def _speak(self, prompts: list[_Prompt], units: list[Tensor] | None, most: list[int], sampling: StageSampling) -> list[Continuation]:
        """Codes along ``units``, or up to ``most`` samples a row without; then sound."""
        timeline = self.timeline
        if units is not None:
            frames = [timeline.frames_for_units(len(row)) for row in units]
        else:
            frames = [-(-total // self.acoustic.hop_length) for total in most]
        request = AcousticRequest(
            prompt_codes=[prompt.codes for prompt in prompts],
            num_frames=frames,
            seeds=[stage_seed(prompt.seed, 1) for prompt in prompts],
            units=units,
            coarse_sampling=sampling.coarse,
            fine_sampling=sampling.fine,
            coarse_window=self._window("coarse", timeline.codes),
            fine_window=self._window("fine", timeline.codes),
        )
        rows = self.model.acoustic.generate(request)
        return [
            self._joined(prompt, codes, None if units is None else units[row], most[row])
            for row, (prompt, codes) in enumerate(zip(prompts, rows, strict=True))
        ]

    def _joined(self, prompt: _Prompt, codes: Tensor, units: Tensor | None, most: int) -> Continuation:
        """The prompt's own samples up to its last kept frame, then what was generated; a crossfade before the joint, where both are the same sound."""
        generated = self._decode(codes)[:most]
        joint = min(len(prompt.codes) * self.acoustic.hop_length, len(generated))
        fade = min(samples_of(CROSSFADE_SECONDS, self.sample_rate), joint)
        wav = generated.copy()
        wav[: joint - fade] = prompt.wav[: joint - fade]
        rising = np.linspace(0, 1, fade + 2, dtype=np.float32)[1:-1]
        wav[joint - fade : joint] = rising * generated[joint - fade : joint] + (1 - rising) * prompt.wav[joint - fade : joint]
        return Continuation(
            wav=wav, sample_rate=self.sample_rate, prompt_samples=min(len(prompt.wav), len(wav)), joint_samples=joint - fade,
            seed=prompt.seed, codes=codes.cpu(), units=None if units is None else units.cpu(),
        )  # fmt: skip

    def _periods(self, prompt: _Prompt, seconds: float) -> int:
        """Periods that cover the prompt and ``seconds`` more."""
        total = Fraction(len(prompt.wav) + samples_of(seconds, self.sample_rate), self.sample_rate)
        return ceil(total / self.timeline.period)

    def _window(self, stage: str, grid: Grid) -> int:
        """Tokens of the longest crop that ``stage`` was trained on, in whole periods for those of two grids."""
        periods = max(2, self.timeline.periods_for(self.trained_seconds[stage]))
        return int(periods * self.timeline.period / grid.step)

    def _encode_codes(self, wav: Samples) -> Tensor:
        return self.acoustic.encode(*self._batch_of_one(wav))[0][0]

    def _encode_units(self, wav: Samples) -> Tensor:
        """Units ``(T_u,)`` of a recording at the codec's rate."""
        assert self.semantic is not None
        return self.semantic.encode(*self._batch_of_one(resample(wav, self.sample_rate, self.semantic.sample_rate)))[0][0]

    def _decode(self, codes: Tensor) -> Samples:
        wav: Samples = self.acoustic.decode(codes[None], torch.tensor([len(codes)], device=self.device))[0].float().cpu().numpy()
        return wav

    def _batch_of_one(self, wav: Samples) -> tuple[Tensor, Tensor]:
        # One by one: what a row is made of then cannot depend on its batch mates, whatever the tokenizer.
        return torch.from_numpy(wav)[None].to(self.device), torch.tensor([len(wav)], device=self.device)


def batches_of(count: int, size: int) -> Iterator[slice]:
    """``count`` rows in batches of at most ``size``."""
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))


def samples_of(seconds: float, sample_rate: int) -> int:
    """The nearest whole number of samples."""
    return round(seconds * sample_rate)


def tokens_settled(num_samples: int, tokenizer: AcousticTokenizer | SemanticTokenizer) -> int:
    """Tokens of a prompt that stay as they are whatever follows it."""
    return max(0, num_samples - tokenizer.right_context) // tokenizer.hop_length


def stage_seed(seed: int, stage: int) -> int:
    """Independent streams for the stages of one row (splitmix64, Steele et al. 2014)."""
    state = (seed * 2 + stage + 1) * 0x9E3779B97F4A7C15 % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return (state ^ state >> 31) % 2**62


def check_seconds(*, prompt_seconds: float, max_seconds: float, min_seconds: float) -> None:
    """Refuse times that make no sense, before anything is read."""
    if not prompt_seconds >= MIN_PROMPT_SECONDS:
        raise PromptError(f"expected a prompt of at least {MIN_PROMPT_SECONDS:g} s, found {prompt_seconds:g} s; raise --prompt-seconds")
    if not 0 < max_seconds < float("inf"):
        raise PromptError(f"expected more than 0 s of new audio, found {max_seconds:g} s; raise --max-seconds")
    if not 0 <= min_seconds < float("inf"):
        raise PromptError(f"expected 0 s or more as the least new audio, found {min_seconds:g} s; change --min-seconds")
