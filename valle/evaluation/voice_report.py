"""Do continuations keep the prompt's voice? The whole of the measurement, from manifests and a pipeline to shares.

Only new audio is heard: what follows the prompt, less the codec's receptive field, in which the prompt still sounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse.cut import Cut

from valle.corpora.manifests import read_cuts
from valle.decoding.sampling import Sampling
from valle.evaluation.continuations import Continued, continue_cuts, cut_audio, guard_seconds, in_hashed_order
from valle.evaluation.voices import VoiceClip, VoiceJudge, VoiceReport, VoicesError, VoiceTrial, voice_shares
from valle.inference.continuation import ContinueSettings
from valle.inference.pipeline import Pipeline
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
    block_seconds: float | None = None  # as of ``ContinueSettings``
    first_block_seconds: tuple[float, ...] = ()

    def continuing(self) -> ContinueSettings:
        """As the pipeline takes it."""
        return ContinueSettings(
            prompt_seconds=self.prompt_seconds, max_seconds=self.max_seconds,
            sampling={SemanticLM.name: Sampling(temperature=self.semantic_temperature)},
            block_seconds=self.block_seconds, first_block_seconds=self.first_block_seconds,
        )  # fmt: skip

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
    by_voice, chosen = choose_voice_trials(manifest_dir, settings, guard=guard_seconds(pipeline))
    continued = continue_cuts(
        pipeline, chosen, settings.continuing(), batch_size=settings.batch_size, seed=settings.seed, progress=progress
    )
    return report_of_voices(pipeline, by_voice, continued, settings)


def choose_voice_trials(manifest_dir: Path, settings: VoiceTrialSettings, *, guard: float) -> tuple[dict[str, list[Cut]], list[Cut]]:
    """Cuts of train by voice, to fit the judge on, and the cuts to continue; raises ``VoicesError`` where there are too few."""
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
    return by_voice, chosen


def report_of_voices(
    pipeline: Pipeline, by_voice: Mapping[str, Sequence[Cut]], continued: Sequence[Continued], settings: VoiceTrialSettings
) -> dict[str, Any]:
    """:func:`voice_report` of continuations that are there already."""
    rate = pipeline.sample_rate
    sounds = {"generated": [row.generated for row in continued], "real": [row.real for row in continued]}
    return {
        **voices_of(pipeline, by_voice, continued, seed=settings.seed).to_dict(),
        "prompt_seconds": settings.prompt_seconds,
        "left_out_after_the_prompt_seconds": guard_seconds(pipeline),
        "judged_seconds": {name: bootstrap_mean([len(wav) / rate for wav in wavs]).to_dict() for name, wavs in sounds.items()},
        "silence_share": {name: bootstrap_mean([silence_share(wav, rate) for wav in wavs]).to_dict() for name, wavs in sounds.items()},
    }


def voices_of(
    pipeline: Pipeline, by_voice: Mapping[str, Sequence[Cut]], continued: Sequence[Continued], *, seed: int
) -> VoiceReport:
    """Which voices a judge that is fitted on the cuts of ``by_voice`` hears in continuations."""
    rate = pipeline.sample_rate
    judge = VoiceJudge([VoiceClip(cut.id, voice_of(cut), cut_audio(cut, rate)) for cuts in by_voice.values() for cut in cuts], rate)
    trials = [
        VoiceTrial(row.cut.id, voice_of(row.cut), generated=row.generated, real=row.real, round_trip=row.round_trip) for row in continued
    ]
    return voice_shares(judge, trials, seed=seed)


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
    ordered = in_hashed_order(cuts, seed)
    turns: dict[str, int] = {}
    ranked = []
    for order, cut in enumerate(ordered):
        turn = turns[voice_of(cut)] = turns.get(voice_of(cut), 0) + 1
        ranked.append((turn, order, cut))
    return [cut for _, _, cut in sorted(ranked, key=lambda item: item[:2])[:count]]


def voice_of(cut: Cut) -> str:
    """The speaker that the cut names; empty for none."""
    return next((str(supervision.speaker) for supervision in cut.supervisions if supervision.speaker), "")


def _cuts(manifest_dir: Path, part: str) -> Iterable[Cut]:
    path = manifest_dir / f"cuts_{part}.jsonl.gz"
    if not path.is_file():
        raise VoicesError(f"expected cuts in {path}, found none; run ./prepare.sh")
    return read_cuts(path)
