"""Whose voice is it? A closed-set judge of voices, and the share of continuations that keep their prompt's.

The judge is small on purpose: statistics of log-mel spectra and a linear discriminant, fitted in seconds on
recordings of the voices that it must know.  It is scored on other utterances of them, beside what it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from valle.audio import Waveform
from valle.errors import UserError
from valle.measures.intervals import Estimate, share_of
from valle.measures.level import speech_gain_db, with_gain
from valle.measures.mel import mel_filters

NUM_MELS, WINDOW_SECONDS, HOP_SECONDS = 64, 0.064, 0.016  # long enough to tell the pitch's harmonics
SPEECH_DB = 35.0  # frames further below the loudest are pauses and say nothing of the voice
CROP_SECONDS = (1.5, 3.0, 6.0)  # the judge hears crops of these lengths of every recording
SHORTEST_SECONDS = 0.5


class VoicesError(UserError):
    """Recordings from which no judge of voices can be made, or that it must not judge."""


@dataclass(frozen=True)
class VoiceClip:
    """One recording of one voice."""

    name: str  # of the utterance: what the judge has heard it must not judge
    voice: str
    wav: Waveform  # (T,)


class VoiceJudge:
    """Names the voice of a clip, among those it was fitted on."""

    def __init__(self, clips: Sequence[VoiceClip], sample_rate: int) -> None:
        """Fit on ``clips`` at ``sample_rate`` Hz, at least two of each of at least two voices."""
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # half a second to import

        self.sample_rate = sample_rate
        self.voices = sorted({clip.voice for clip in clips})
        self.heard = frozenset(clip.name for clip in clips)
        counts = {voice: sum(clip.voice == voice for clip in clips) for voice in self.voices}
        if len(counts) < 2 or min(counts.values()) < 2:
            rare = min(counts, key=counts.__getitem__, default="none")
            raise VoicesError(
                f"expected two recordings each of two or more voices to tell them apart, found {len(counts)} voices and "
                f"{counts.get(rare, 0)} recordings of {rare}; use a larger corpus"
            )
        rows, labels = [], []
        for clip in clips:
            for crop in _crops(clip.wav, sample_rate):
                rows.append(voice_features(crop, sample_rate))
                labels.append(clip.voice)
        features = np.stack(rows)
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-6
        self.discriminant: Any = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(len(counts), 1 / len(counts)))
        self.discriminant.fit((features - self.mean) / self.deviation, labels)

    def name_voice(self, wav: Waveform) -> str | None:
        """The likeliest voice of ``wav (T,)``; None where there are less than half a second or no sound at all."""
        if len(wav) < SHORTEST_SECONDS * self.sample_rate or not wav.any():
            return None
        features = (voice_features(wav, self.sample_rate) - self.mean) / self.deviation
        return str(self.discriminant.predict(features[None])[0])


@dataclass(frozen=True)
class VoiceTrial:
    """One prompt and what stands after it, each ``(T,)`` without any of the prompt."""

    name: str  # of the utterance
    voice: str
    generated: Waveform
    real: Waveform
    round_trip: Waveform  # the real continuation through the codec


@dataclass(frozen=True)
class VoiceReport:
    """Shares of clips that the judge gives to the prompt's voice; clips without sound count as missed."""

    measure: ClassVar[str] = "share of clips given to the prompt's voice by a closed-set judge; only what was generated is heard"
    num_voices: int
    generated: Estimate
    real: Estimate
    round_trip: Estimate
    shuffled: Estimate  # outputs beside the prompts of others

    @property
    def chance(self) -> float:
        return 1 / self.num_voices

    def to_dict(self) -> dict[str, Any]:
        shares = {name: getattr(self, name).to_dict() for name in ("generated", "real", "round_trip", "shuffled")}
        return {"measure": self.measure, "num_voices": self.num_voices, "chance": self.chance, **shares}


def voice_shares(judge: VoiceJudge, trials: Sequence[VoiceTrial], *, seed: int = 0) -> VoiceReport:
    """Score ``trials`` of voices that the judge knows and of utterances that it has not heard; raises ``VoicesError`` otherwise."""
    overlap = sorted(judge.heard & {trial.name for trial in trials})
    if overlap:
        raise VoicesError(f"expected utterances that the judge has not heard, found {len(overlap)} that it was fitted on")
    unknown = sorted({trial.voice for trial in trials} - set(judge.voices))
    if unknown:
        raise VoicesError(f"expected voices that the judge knows, found {', '.join(unknown[:3])}; leave these prompts out")
    if len(trials) < 2:
        raise VoicesError(f"expected two prompts or more, so that they can be shuffled, found {len(trials)}")

    def given_to_own(part: Callable[[VoiceTrial], Waveform]) -> Estimate:
        return share_of([judge.name_voice(part(trial)) == trial.voice for trial in trials])

    named = [judge.name_voice(trial.generated) for trial in trials]
    others = [trials[other].voice for other in derangement(len(trials), seed)]
    return VoiceReport(
        num_voices=len(judge.voices),
        generated=given_to_own(lambda trial: trial.generated),
        real=given_to_own(lambda trial: trial.real),
        round_trip=given_to_own(lambda trial: trial.round_trip),
        shuffled=share_of([voice == other for voice, other in zip(named, others, strict=True)]),
    )


def derangement(count: int, seed: int) -> NDArray[np.int64]:
    """A random order of ``0..count-1`` in which nothing stays in its place (one cycle); ``count`` at least 2."""
    order = np.random.default_rng(seed).permutation(count)
    moved = np.empty(count, np.int64)
    moved[order] = np.roll(order, 1)
    return moved


def voice_features(wav: Waveform, sample_rate: int) -> NDArray[np.float64]:
    """Mean, spread and slope of the log-mel spectrum of ``wav (T,)`` over frames with speech, loudness removed; ``(4 * NUM_MELS,)``."""
    size = int(WINDOW_SECONDS * sample_rate)
    wav = with_gain(wav, speech_gain_db(wav, sample_rate))  # or quiet clips would meet the floor of the logarithm
    padded = torch.from_numpy(np.pad(wav, (0, max(0, size - len(wav)))))
    frames = padded.unfold(0, size, int(HOP_SECONDS * sample_rate)) * torch.hann_window(size)
    power = torch.fft.rfft(frames).abs().square()  # (T_f, F)
    energy = power.sum(1)
    kept = energy >= energy.max() * 10 ** (-SPEECH_DB / 10)
    logs = (power[kept] @ mel_filters(sample_rate, size, NUM_MELS)).clamp(min=1e-8).log().double()
    logs = logs - logs.mean(1, keepdim=True)
    steps = logs.diff(dim=0) if len(logs) > 1 else torch.zeros_like(logs)
    quiet, loud = logs.quantile(0.1, dim=0), logs.quantile(0.9, dim=0)
    features: NDArray[np.float64] = torch.cat([logs.mean(0), steps.abs().mean(0), quiet, loud]).numpy()
    return features


def _crops(wav: Waveform, sample_rate: int) -> list[Waveform]:
    """The whole clip, and crops of several lengths side by side, so that short clips are judged as well as long ones."""
    crops = [wav]
    for seconds in CROP_SECONDS:
        size = int(seconds * sample_rate)
        crops += [wav[start : start + size] for start in range(0, len(wav) - size + 1, size)]
    return crops
