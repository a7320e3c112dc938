"""One acoustic model on one corpus: what it learns in so many minutes, and what it then speaks (``benchmarks.acoustic_models``).

Everything here runs in the recipe's folder, from which manifests name their arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lhotse.cut import Cut

from benchmarks.voices_kept import half_report, parted, pooled
from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.decoding.sampling import Sampling
from valle.evaluation.codec_report import round_trips
from valle.evaluation.continuations import cut_audio, in_hashed_order, round_trip, shuffled_runs, speak_units, units_of
from valle.evaluation.heard_words import HeardClip, trusted, word_errors
from valle.evaluation.recogniser import Recogniser
from valle.evaluation.voice_report import VoiceTrialSettings, voice_of, voice_report
from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.inference.trained_model import trained_model
from valle.measures.intervals import bootstrap_mean
from valle.measures.sound import stoi
from valle.memory import peak_memory_gib
from valle.models.audio_lm import count_parameters
from valle.models.registry import acoustic_type
from valle.modules.transformer import Engine
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World
from valle.training.loop import Loop
from valle.training.options import AudioLMOptions
from valle.training.summary import summarise

# Of about the same size as the coarse and the fine stage of the demo together, within 10 %.
MODELS: dict[str, dict[str, Any]] = {
    "ar-nar": {"fine_crops": 2, "fine_lr": 0.001},
    "flat": {},
    "delay": {"delay_num_layers": 6},
    "rq": {"rq_num_layers": 3, "depth_dim": 96, "depth_nhead": 2, "depth_num_layers": 3},
    "soundstorm": {"num_decoder_layers": 3, "soundstorm_crops": 2, "base_lr": 0.001},
}
SHAPE: dict[str, Any] = {
    "decoder_dim": 256, "nhead": 4, "num_decoder_layers": 3, "semantic_num_layers": 3, "dim_feedforward": 832, "dropout": 0.0,
    "num_quantizers": 8, "max_duration": 25.0, "optimizer_name": "AdamW", "scheduler_name": "cosine", "base_lr": 0.002,
    "warmup_share": 0.07, "filter_min_duration": 3.0,
}  # fmt: skip
CROP_SECONDS = 6.0  # of every stage over all levels, or of a coarse one; fine stages keep their own
PROMPT_SECONDS = 3.0
TUNING_RATE = 0.5  # learning rates of tuning, of those of training
ENGINES: tuple[Engine, ...] = ("native", "torch")  # that are timed
WORD_SECONDS = (4.0, 10.0)  # of recordings that a recogniser hears


def train(
    name: str, manifest_dir: Path, init_from: Path | None, exp_dir: Path, *, minutes: float, dtype: str = "auto", tuned: bool = False,
    now: Callable[[], float] = time.process_time, **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train the acoustic stages alone, for so many minutes of this process -> what they score on dev.

    ``init_from`` has the semantic stage, and where they are ``tuned`` the acoustic stages too.
    """
    settings = {**SHAPE, **_crops(name), **MODELS[name]}
    if tuned:
        settings |= {key: settings[key] * TUNING_RATE for key in ("base_lr", "fine_lr") if key in settings}
    options = AudioLMOptions(**{
        **settings, "acoustic_model": name, "train_stage": ",".join(stages_of(name)), "init_from": init_from,
        "manifest_dir": manifest_dir, "exp_dir": exp_dir, "max_minutes": minutes, "num_epochs": 100000, "valid_max_cuts": 60,
        "valid_interval": 10**9, "epoch_ends": False, "save_every_n": 0, "num_workers": 0, "num_threads": 1, "dtype": dtype,
        "device": "cpu", "tensorboard": False, **changes,
    })  # fmt: skip
    task = AudioLMTask(options)
    loop = Loop(task, options, World(), now=now)
    loop.run()
    summary = summarise(task, train=loop.evaluate(of_train=True), valid=loop.validate())
    loop.recorder.close()
    stages = task.model.acoustic_stages()
    by_level = [value for stage in stages for value in summary[stage].get("nll_per_codebook") or [summary[stage]["valid_nll"]]]
    seconds = loop.progress.step * options.max_duration
    return {
        "steps": loop.progress.step, "minutes": minutes, "hours_of_audio_read": round(seconds / 3600, 2), "dtype": loop.progress.dtype,
        "parameters": sum(count_parameters(stage) for stage in stages.values()),
        "nll_by_level": [round(value, 3) for value in by_level], "nats_per_second": _rounded(summary.get("codes")),
        "training_memory_mib": round(1024 * peak_memory_gib()),
    }  # fmt: skip


def stages_of(name: str) -> list[str]:
    """The acoustic stages of a model of eight levels."""
    return [stage.name for stage in acoustic_type(name).stage_types]


def _crops(name: str) -> dict[str, float]:
    return {f"{stage.name}_seconds": min(stage.crop_seconds, CROP_SECONDS) for stage in acoustic_type(name).stage_types}


def _rounded(row: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if row is None else {key: round(value, 1) for key, value in row.items()}


def trained_pipeline(exp_dir: Path, *, engine: Engine = "auto") -> Pipeline:
    """The best weights of a run."""
    return Pipeline(trained_model(checkpoint=None, exp_dir=exp_dir, epoch=0, avg=1, use_averaged_model=False), engine=engine)


def kept_voices(pipeline: Pipeline, manifest_dir: Path, num_prompts: int) -> dict[str, Any]:
    """Shares of continuations that keep the prompt's voice.

    The judge learns the voices of train where dev and test have these. Else half of each voice's cuts of dev and test are for the
    judge and the others for prompts, and the other way round.
    """
    parts = {part: list(read_cuts(manifest_dir / f"cuts_{part}.jsonl.gz")) for part in ("train", "dev", "test")}
    voices = {part: {voice_of(cut) for cut in cuts} for part, cuts in parts.items()}
    if voices["train"] & (voices["dev"] | voices["test"]):
        return voice_report(pipeline, manifest_dir, VoiceTrialSettings(num_prompts=num_prompts))
    halves = parted(parts["dev"] + parts["test"])
    settings = VoiceTrialSettings(num_prompts=num_prompts // 2)
    return pooled([half_report(pipeline, known, others, settings) for known, others in (halves, halves[::-1])])


def recordings(manifest_dir: Path, sample_rate: int, count: int) -> list[Waveform]:
    """The first ``count`` test utterances with at least two seconds after the prompt."""
    cuts = (cut for cut in read_cuts(manifest_dir / "cuts_test.jsonl.gz") if cut.duration >= PROMPT_SECONDS + 2)
    return [resample(*read_cut(cut), sample_rate) for cut in islice(cuts, count)]


def speak(
    pipeline: Pipeline, wavs: Sequence[Waveform], *, sampling: Mapping[str, Sampling] | None = None, batch_size: int = 8
) -> dict[str, Any]:
    """STOI of the sound of each recording's own units after its prompt, beside the codec's round trip of the same seconds."""
    rate, length = pipeline.sample_rate, max(len(wav) for wav in wavs) / pipeline.sample_rate
    how = ContinueSettings(mode="acoustic", prompt_seconds=PROMPT_SECONDS, max_seconds=length, sampling=sampling or {}, watermark=False)
    levels = pipeline.model.config.num_quantizers
    generated, again = [], []
    for first in range(0, len(wavs), batch_size):
        some = wavs[first : first + batch_size]
        for wav, result in zip(some, pipeline.continue_audio(some, rate, settings=how), strict=True):
            new = slice(result.prompt_samples, min(len(result.wav), len(wav)))
            through = round_trips(pipeline.acoustic, wav, [levels])[1][str(levels)]
            generated.append(stoi(result.wav[new], wav[new], rate))
            again.append(stoi(through[new], wav[new], rate))
    return {"stoi": bootstrap_mean(generated).to_dict(), "stoi_of_round_trip": bootstrap_mean(again).to_dict()}


def spoken_texts(manifest_dir: Path, count: int) -> list[Cut]:
    """``count`` cuts of dev and test whose text is known, neither short nor long."""
    cuts = [cut for part in ("dev", "test") for cut in read_cuts(manifest_dir / f"cuts_{part}.jsonl.gz")]
    least, most = WORD_SECONDS
    return in_hashed_order([cut for cut in cuts if text_of(cut) and least <= cut.duration <= most], 0)[:count]


def text_of(cut: Cut) -> str:
    """What is said in a cut; empty where the manifest does not say."""
    return " ".join(supervision.text for supervision in cut.supervisions if supervision.text)


def words_of_model(pipeline: Pipeline, recogniser: Recogniser, cuts: Sequence[Cut], *, batch_size: int = 4) -> dict[str, Any]:
    """Word errors of each cut's own units, spoken without a prompt, and of the same units shuffled: what is heard in babble."""
    rate = pipeline.sample_rate
    units = [units_of(pipeline, cut_audio(cut, rate)) for cut in cuts]
    babble = [shuffled_runs(row, seed=number) for number, row in enumerate(units)]
    sounds: dict[str, list[Waveform]] = {"generated": [], "babble": []}
    for name, rows in (("generated", units), ("babble", babble)):
        for first in range(0, len(rows), batch_size):
            sounds[name] += speak_units(pipeline, rows[first : first + batch_size], seed=first)
    return {name: heard(recogniser, cuts, wavs, rate) for name, wavs in sounds.items()}


def words_of_recordings(pipeline: Pipeline, recogniser: Recogniser, cuts: Sequence[Cut]) -> dict[str, Any]:
    """Word errors of the recordings, and of their round trips through the codec."""
    rate = pipeline.sample_rate
    wavs = [cut_audio(cut, rate) for cut in cuts]
    through = [round_trip(pipeline, wav) for wav in wavs]
    return {name: heard(recogniser, cuts, some, rate) for name, some in (("real", wavs), ("round_trip", through))}


def heard(recogniser: Recogniser, cuts: Sequence[Cut], wavs: Sequence[Waveform], sample_rate: int) -> dict[str, Any]:
    """Word error rate, and the share of clips of which the recogniser is sure."""
    clips = [HeardClip(cut.id, len(wav) / sample_rate, recogniser.hear(wav, sample_rate)) for cut, wav in zip(cuts, wavs, strict=True)]
    return {"wer": word_errors(clips, [text_of(cut) for cut in cuts]).to_dict(), "trusted": trusted(clips).to_dict()}


def memory_of_ten_seconds(exp_dir: Path, wav: Waveform) -> int:
    """The most that this process has held, MiB, once it has continued ``wav`` by 10 s with the native step."""
    ten_seconds(trained_pipeline(exp_dir, engine="native"), wav)
    return round(1024 * peak_memory_gib())


def ten_seconds(pipeline: Pipeline, wav: Waveform) -> float:
    """Seconds of a whole continuation by 10 s, units included."""
    started = time.perf_counter()
    pipeline.continue_audio([wav], pipeline.sample_rate, prompt_seconds=PROMPT_SECONDS, max_seconds=10.0, min_seconds=10.0)
    return time.perf_counter() - started


def seconds_for_ten(runs: Mapping[str, Path], wav: Waveform, *, rounds: int = 2) -> dict[str, dict[str, float]]:
    """The best of ``rounds`` continuations by 10 s, of every run by either engine in turns, after a short one that makes the kernels."""
    pipelines = {(name, engine): trained_pipeline(exp_dir, engine=engine) for name, exp_dir in runs.items() for engine in ENGINES}
    for pipeline in pipelines.values():
        pipeline.continue_audio([wav], pipeline.sample_rate, prompt_seconds=PROMPT_SECONDS, max_seconds=0.5)
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in pipelines}
    for _ in range(rounds):
        for key, pipeline in pipelines.items():
            taken[key].append(ten_seconds(pipeline, wav))
    return {name: {engine: round(min(taken[name, engine]), 2) for engine in ENGINES} for name in runs}
