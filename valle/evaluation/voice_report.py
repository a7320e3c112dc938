"""Do continuations keep the prompt's voice? The whole of the measurement, from manifests and a pipeline to shares.

Only new audio is heard: what follows the prompt, less the codec's receptive field, in which the prompt still sounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lhotse.cut import Cut

from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.decoding.sampling import Sampling
from valle.evaluation.codec_report import round_trips
from valle.evaluation.voices import VoiceClip, VoiceJudge, VoicesError, VoiceTrial, voice_shares
from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.measures.intervals import bootstrap_mean
from valle.measures.sound import silence_share
from valle.models.semantic import SemanticLM
from valle.progress import Progress


@dataclass(frozen=True, kw_only=True)
class VoiceTrialSettings:
    """What is judged: ``num_prompts`` utterances of dev and test by voices of train, the judge fitted on others of theirs."""

    num_prompts: int = 48
    prompt_seconds: float = 3.0
    max_seconds: float = 4.0  # of new audio
    least_seconds: float = 1.0  # of real continuation left to judge, or the utterance is passed over
    clips_a_voice: int = 8  # on which the judge is fitted
    batch_size: int = 16
    seed: int = 0
    semantic_temperature: float = SemanticLM.sampling.temperature  # of new units

    def __post_init__(self) -> None:
        if self.num_prompts < 2 or self.clips_a_voice < 2:
            raise VoicesError(f"expected two or more prompts and recordings a voice, found {self.num_prompts} and {self.clips_a_voice}")


def voice_report(
    pipeline: Pipeline, manifest_dir: Path, settings: VoiceTrialSettings | None = None, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Shares of continuations, real continuations, their round trips and shuffled outputs that keep the prompt's voice.

    ``manifest_dir`` holds ``cuts_{train,dev,test}.jsonl.gz`` whose supervisions name speakers.  Also the share of silence
    and the seconds of what was generated, beside the real ones.  Raises ``VoicesError``.
    """
    settings = settings or VoiceTrialSettings()
    guard = pipeline.acoustic.left_context / pipeline.sample_rate
    by_voice = clips_by_voice(_cuts(manifest_dir, "train"), settings.clips_a_voice)
    wanted = settings.prompt_seconds + guard + settings.least_seconds
    others = [cut for part in ("test", "dev") for cut in _cuts(manifest_dir, part)]
    candidates = [cut for cut in others if voice_of(cut) in by_voice and cut.duration >= wanted]
    chosen = one_voice_after_another(candidates, settings.num_prompts, settings.seed)
    if len(chosen) < 2:
        raise VoicesError(
            f"expected utterances of {wanted:.1f} s or more by train's voices in dev or test of {manifest_dir}, found {len(chosen)}; "
            "make a larger corpus or shorten the prompt"
        )
    rate = pipeline.sample_rate
    judge = VoiceJudge([VoiceClip(cut.id, voice_of(cut), _audio(cut, rate)) for cuts in by_voice.values() for cut in cuts], rate)
    trials = _trials(pipeline, chosen, settings, guard, progress)
    sounds = {"generated": [trial.generated for trial in trials], "real": [trial.real for trial in trials]}
    return {
        **voice_shares(judge, trials, seed=settings.seed).to_dict(),
        "prompt_seconds": settings.prompt_seconds,
        "left_out_after_the_prompt_seconds": guard,
        "judged_seconds": {name: bootstrap_mean([len(wav) / rate for wav in wavs]).to_dict() for name, wavs in sounds.items()},
        "silence_share": {name: bootstrap_mean([silence_share(wav, rate) for wav in wavs]).to_dict() for name, wavs in sounds.items()},
    }


def clips_by_voice(cuts: Iterable[Cut], most: int) -> dict[str, list[Cut]]:
    """Up to ``most`` cuts of every named voice, the first ones; voices of a single cut are left out."""
    by_voice: dict[str, list[Cut]] = {}
    for cut in cuts:
        voice = voice_of(cut)
        if voice and len(clips := by_voice.setdefault(voice, [])) < most:
            clips.append(cut)
    return {voice: clips for voice, clips in by_voice.items() if len(clips) > 1}


def one_voice_after_another(cuts: Iterable[Cut], count: int, seed: int) -> list[Cut]:
    """``count`` cuts in a hashed order: one of every voice, then a second of every voice, and so on."""
    ordered = sorted(cuts, key=lambda cut: blake2b(f"{seed}:{cut.id}".encode(), digest_size=8).digest())
    turns: dict[str, int] = {}
    ranked = []
    for order, cut in enumerate(ordered):
        turn = turns[voice_of(cut)] = turns.get(voice_of(cut), 0) + 1
        ranked.append((turn, order, cut))
    return [cut for _, _, cut in sorted(ranked, key=lambda item: item[:2])[:count]]


def voice_of(cut: Cut) -> str:
    """The speaker that the cut names; empty for none."""
    return next((str(supervision.speaker) for supervision in cut.supervisions if supervision.speaker), "")


def _trials(pipeline: Pipeline, cuts: list[Cut], settings: VoiceTrialSettings, guard: float, progress: Progress | None) -> list[VoiceTrial]:
    rate = pipeline.sample_rate
    length = round(settings.max_seconds * rate)
    how = ContinueSettings(
        prompt_seconds=settings.prompt_seconds, max_seconds=settings.max_seconds,
        sampling={SemanticLM.name: Sampling(temperature=settings.semantic_temperature)},
    )  # fmt: skip
    trials = []
    for first in range(0, len(cuts), settings.batch_size):
        batch = cuts[first : first + settings.batch_size]
        recordings = [_audio(cut, rate) for cut in batch]
        results = pipeline.continue_audio(recordings, rate, seed=settings.seed, settings=how)
        for cut, wav, result in zip(batch, recordings, results, strict=True):
            new = slice(result.prompt_samples + round(guard * rate), result.prompt_samples + length)
            again = _round_trip(pipeline, wav[: new.stop])
            trials.append(VoiceTrial(cut.id, voice_of(cut), generated=result.wav[new], real=wav[new], round_trip=again[new]))
        if progress is not None:
            progress(len(trials), len(cuts))
    return trials


def _round_trip(pipeline: Pipeline, wav: Waveform) -> Waveform:
    levels = pipeline.model.config.num_quantizers
    return round_trips(pipeline.acoustic, wav, [levels])[1][str(levels)]


def _audio(cut: Cut, sample_rate: int) -> Waveform:
    wav, rate = read_cut(cut)
    return resample(wav, rate, sample_rate)


def _cuts(manifest_dir: Path, part: str) -> Iterable[Cut]:
    path = manifest_dir / f"cuts_{part}.jsonl.gz"
    if not path.is_file():
        raise VoicesError(f"expected cuts in {path}, found none; run ./prepare.sh")
    return read_cuts(path)
