"""Audio in, and the same voice goes on: tokenizers, AudioLM and decoding behind one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from valle.audio import Waveform, resample
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.ar_nar import AcousticRequest
from valle.models.released import Released, load_released

BUNDLED_MODEL = Path(__file__).parent / "assets" / "audio-lm"
MIN_PROMPT_SECONDS = 0.2
FADE_SECONDS = 0.02  # over which the prompt's own samples give way to generated ones

Mode = Literal["continue", "resynthesize", "acoustic"]


class PromptError(UserError):
    """A prompt that cannot be continued."""


@dataclass(frozen=True)
class ContinueSettings:
    """How audio is continued; times in seconds, of new audio for ``min_seconds`` and ``max_seconds``.

    Temperatures are AudioLM's: 0.6, 0.8 and 0.6 (Borsos et al. 2022, 4.1).
    """

    mode: Mode = "continue"
    prompt_seconds: float = 3.0
    max_seconds: float = 10.0
    min_seconds: float = 1.0
    semantic: Sampling = field(default_factory=lambda: Sampling(temperature=0.6))
    coarse: Sampling = field(default_factory=lambda: Sampling(temperature=0.8))
    fine: Sampling = field(default_factory=lambda: Sampling(temperature=0.6))

    def __post_init__(self) -> None:
        if self.mode not in ("continue", "resynthesize", "acoustic"):
            raise UserError(f"the mode must be continue, resynthesize or acoustic, found {self.mode!r}")
        if not self.max_seconds > 0:
            raise UserError(f"the new audio must be longer than 0 seconds, found {self.max_seconds:g}; raise max_seconds")
        if not 0 <= self.min_seconds <= self.max_seconds:
            raise UserError(f"min_seconds must lie between 0 and max_seconds ({self.max_seconds:g}), found {self.min_seconds:g}")
        if self.prompt_seconds < MIN_PROMPT_SECONDS and not (self.mode == "acoustic" and self.prompt_seconds == 0):
            raise UserError(f"the prompt must last at least {MIN_PROMPT_SECONDS} s, found {self.prompt_seconds:g}; raise prompt_seconds")


@dataclass(frozen=True)
class Continuation:
    """One result: the prompt's own samples, then what was generated."""

    wav: Waveform  # (T,) float32
    sample_rate: int
    prompt_seconds: float
    generated_seconds: float
    seed: int
    units: Tensor | None  # (T_u,) of prompt and continuation
    codes: Tensor  # (T, Q) of prompt and continuation

    @property
    def seconds(self) -> float:
        return len(self.wav) / self.sample_rate


@dataclass(frozen=True)
class _Prompt:
    """One prompt on its way: what is kept of its audio and tokens."""

    wav: Waveform  # at the codec's rate
    units: Tensor  # kept units, whole periods, without what the end of the prompt could have changed
    codes: Tensor


class Pipeline:
    """A released model, ready to continue audio."""

    def __init__(self, released: Released, *, device: str = "cpu") -> None:
        self.released = released
        self.device = torch.device(device)
        self.model = released.model.to(self.device).eval()
        self.acoustic, self.timeline = released.acoustic.to(self.device), released.timeline
        self.semantic = released.semantic.to(self.device) if released.semantic else None

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None, *, device: str = "cpu") -> Pipeline:
        """The released model in ``folder``, or the bundled one."""
        return cls(load_released(Path(folder) if folder else BUNDLED_MODEL), device=device)

    @property
    def sample_rate(self) -> int:
        """Of what comes out, Hz."""
        return self.acoustic.sample_rate

    def continue_audio(
        self, wav: Waveform | Sequence[Waveform], sample_rate: int, *, seed: int | Sequence[int] = 0, settings: ContinueSettings | None = None
    ) -> list[Continuation]:
        """Continue one waveform ``(T,)`` or several, each from its first ``settings.prompt_seconds``.

        ``seed`` of one number gives row b the seed ``seed + b``; a row's result depends on its own prompt and seed
        alone, not on its batch.
        """
        settings = settings or ContinueSettings()
        wavs = [wav] if isinstance(wav, np.ndarray) and wav.ndim == 1 else list(wav)
        seeds = [seed + row for row in range(len(wavs))] if isinstance(seed, int) else list(seed)
        if len(seeds) != len(wavs):
            raise UserError(f"expected a seed for each of {len(wavs)} prompts, found {len(seeds)}")
        if not wavs:
            return []
        audio = [self._prepared(one, sample_rate, settings) for one in wavs]
        with torch.inference_mode():
            if settings.mode == "resynthesize":
                return [self._resynthesized(one, one_seed) for one, one_seed in zip(audio, seeds, strict=True)]
            if settings.mode == "acoustic":
                return self._acoustic(audio, seeds, settings)
            return self._continued(audio, seeds, settings)

    def _prepared(self, wav: Waveform, sample_rate: int, settings: ContinueSettings) -> Waveform:
        wav = np.asarray(wav, dtype=np.float32)
        if wav.ndim != 1:
            raise PromptError(f"expected a mono waveform of shape (T,), found {wav.shape}; take the mean over the channels")
        if not np.isfinite(wav).all():
            raise PromptError("expected numbers in the prompt, found samples that are infinite or not a number; export the file again")
        if len(wav) < MIN_PROMPT_SECONDS * sample_rate:
            raise PromptError(f"expected a prompt of at least {MIN_PROMPT_SECONDS} s, found {len(wav) / sample_rate:.2f} s; use a longer recording")
        if settings.mode == "continue":
            wav = wav[: round(settings.prompt_seconds * sample_rate)]
        return resample(wav, sample_rate, self.acoustic.sample_rate)

    def _continued(self, audio: list[Waveform], seeds: list[int], settings: ContinueSettings) -> list[Continuation]:
        prompts = [self._prompt(wav) for wav in audio]
        total_periods = [self._periods(len(prompt.wav)) + self.timeline.periods_for(settings.max_seconds) for prompt in prompts]
        units: list[Tensor] | None = None
        if self.semantic is not None:
            units = self._continue_units(prompts, total_periods, seeds, settings)
            per_period = self.timeline.units_per_period
            total_periods = [len(row) // per_period for row in units]
        frames = [periods * self.timeline.frames_per_period for periods in total_periods]
        codes = self._continue_codes([prompt.codes for prompt in prompts], frames, units, seeds, settings)
        return [self._joined(prompts[row].wav, codes[row], units[row] if units else None, seeds[row]) for row in range(len(prompts))]

    def _continue_units(self, prompts: list[_Prompt], total_periods: list[int], seeds: list[int], settings: ContinueSettings) -> list[Tensor]:
        assert self.model.semantic is not None and self.timeline.units is not None
        per_period = self.timeline.units_per_period
        new = self.model.semantic.generate(
            [prompt.units for prompt in prompts],
            max_new=[periods * per_period - len(prompt.units) for periods, prompt in zip(total_periods, prompts, strict=True)],
            min_new=[
                (self._periods(len(prompt.wav)) + self.timeline.periods_for(settings.min_seconds)) * per_period - len(prompt.units) for prompt in prompts
            ],
            sampling=settings.semantic,
            seeds=seeds,
            window=self._window("semantic", float(self.timeline.units.step)),
        )
        rows = [torch.cat([prompt.units, row]) for prompt, row in zip(prompts, new, strict=True)]
        return [row[: len(row) // per_period * per_period] for row in rows]

    def _continue_codes(
        self, prompts: list[Tensor], frames: list[int], units: list[Tensor] | None, seeds: list[int], settings: ContinueSettings
    ) -> list[Tensor]:
        request = AcousticRequest(
            prompt_codes=[prompt[:count] for prompt, count in zip(prompts, frames, strict=True)],
            num_frames=frames,
            seeds=seeds,
            units=units,
            coarse_sampling=settings.coarse,
            fine_sampling=settings.fine,
            coarse_window=self._window("coarse", float(self.timeline.codes.step)),
            fine_window=self._window("fine", float(self.timeline.codes.step)),
        )
        return self.model.acoustic.generate(request)

    def _acoustic(self, audio: list[Waveform], seeds: list[int], settings: ContinueSettings) -> list[Continuation]:
        """Sound from the recording's own units, in the voice of its first ``prompt_seconds``."""
        if self.semantic is None:
            raise UserError("this model knows no units, so it cannot speak from a recording's; use the mode continue or resynthesize")
        results = []
        for wav, seed in zip(audio, seeds, strict=True):
            units, codes = self._units(wav), self._codes(wav)
            num_units, num_frames = self.timeline.align(len(units), len(codes))
            kept = min(self.timeline.periods_for(settings.prompt_seconds) * self.timeline.frames_per_period, num_frames)
            row = self._continue_codes([codes[:kept]], [num_frames], [units[:num_units]], [seed], settings)[0]
            prompt = wav[: kept * self.acoustic.hop_length] if kept else wav[:0]
            results.append(self._joined(prompt, row, units[:num_units], seed))
        return results

    def _resynthesized(self, wav: Waveform, seed: int) -> Continuation:
        codes = self._codes(wav)
        sound = self._decode(codes)[: len(wav)]
        units = self._units(wav) if self.semantic else None
        return Continuation(
            wav=sound, sample_rate=self.sample_rate, prompt_seconds=0.0, generated_seconds=len(sound) / self.sample_rate, seed=seed, units=units, codes=codes
        )

    def _prompt(self, wav: Waveform) -> _Prompt:
        """Tokens of a prompt without those that what follows could still have changed: the right context of each tokenizer."""
        codes = self._codes(wav)
        frames = max(0, len(wav) - self.acoustic.right_context) // self.acoustic.hop_length
        if self.semantic is None:
            return _Prompt(wav=wav, units=torch.zeros(0, dtype=torch.int64), codes=codes[:frames])
        units = self._units(wav)
        rate = self.semantic.sample_rate
        samples = len(wav) * rate // self.acoustic.sample_rate
        count = max(0, samples - self.semantic.right_context) // self.semantic.hop_length
        return _Prompt(wav=wav, units=units[:count], codes=codes[:frames])

    def _joined(self, prompt: Waveform, codes: Tensor, units: Tensor | None, seed: int) -> Continuation:
        """The prompt's own samples, a short crossfade, and the decoded continuation."""
        sound = self._decode(codes)
        fade = min(round(FADE_SECONDS * self.sample_rate), len(prompt))
        if len(sound) <= len(prompt):
            wav = prompt
        else:
            rise = np.linspace(0, 1, fade, dtype=np.float32)
            start = len(prompt) - fade
            joint = prompt[start:] * (1 - rise) + sound[start : len(prompt)] * rise
            wav = np.concatenate([prompt[:start], joint, sound[len(prompt) :]])
        return Continuation(
            wav=wav, sample_rate=self.sample_rate, prompt_seconds=len(prompt) / self.sample_rate,
            generated_seconds=(len(wav) - len(prompt)) / self.sample_rate, seed=seed, units=units, codes=codes,
        )  # fmt: skip

    def _codes(self, wav: Waveform) -> Tensor:
        codes, lengths = self.acoustic.encode(torch.from_numpy(wav)[None].to(self.device), torch.tensor([len(wav)], device=self.device))
        return codes[0, : int(lengths[0]), : self.model.config.num_quantizers]

    def _units(self, wav: Waveform) -> Tensor:
        assert self.semantic is not None
        own = resample(wav, self.acoustic.sample_rate, self.semantic.sample_rate)
        units, lengths = self.semantic.encode(torch.from_numpy(own)[None].to(self.device), torch.tensor([len(own)], device=self.device))
        return units[0, : int(lengths[0])]

    def _decode(self, codes: Tensor) -> Waveform:
        if len(codes) == 0:
            return np.zeros(0, np.float32)
        wav = self.acoustic.decode(codes[None], torch.tensor([len(codes)], device=codes.device))[0].cpu().numpy()
        return np.clip(wav, -1, 1).astype(np.float32)

    def _periods(self, num_samples: int) -> int:
        return self.timeline.periods_for(num_samples / self.acoustic.sample_rate)

    def _window(self, stage: str, step: float) -> int:
        """Tokens of the longest crop that a stage was trained on."""
        return max(8, int(self.released.trained_seconds[stage] / step))
