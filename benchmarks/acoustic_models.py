#!/usr/bin/env python3
"""Every acoustic model on the same tokens, at equal time and about equal size, behind one semantic stage.

  python -m benchmarks.acoustic_models --manifest-dir egs/espeak/data/tokenized --semantic egs/espeak/exp/demo/best-valid-loss.pt

Each learns by itself, by processor time of one thread, so that other programs on the machine change nothing. Then it speaks: after
3 s of each prompt along the recording's own units (its STOI beside that of the codec's round trip of the same seconds), and along
new units (the share of prompts whose voice it keeps).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, header, run_child, write_results
from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.evaluation.codec_report import round_trips
from valle.evaluation.voice_report import VoiceTrialSettings, voice_report
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
ENGINES: tuple[Engine, ...] = ("torch", "native")  # that are timed


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest-dir", type=Path, required=True, help="data/tokenized of a recipe with units")
    parser.add_argument("--semantic", type=Path, required=True, help="checkpoint or released folder whose semantic stage all share")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--minutes", type=float, default=6.0, help="of processor time, each")
    parser.add_argument("--dtype", default="auto", help="number format of training")
    parser.add_argument("--num-prompts", type=int, default=64, help="whose voice is judged")
    parser.add_argument("--num-spoken", type=int, default=24, help="recordings that are spoken along their own units")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS / "acoustic_models.json")
    parser.add_argument("--work-dir", type=Path, help="keep the runs here, and go on with what is there")
    parser.add_argument("--only", choices=MODELS, help="train and measure one in this process; what the benchmark does for each")
    options = parser.parse_args(arguments)
    if options.only:
        row = measure(options.only, options, work=options.output.parent)
        row["peak_memory_mib"] = round(1024 * peak_memory_gib())  # here, so that it is in the row though this process' parent may end
        options.output.write_text(json.dumps(row), encoding="utf-8")
        return
    manifests = options.manifest_dir.resolve()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        work = options.work_dir or Path(scratch)

        def run(name: str) -> dict[str, Any]:
            output = work.resolve() / name / "row.json"
            output.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-P", "-m", "benchmarks.acoustic_models", "--only", name, "--manifest-dir", manifests]
            sizes = ["--minutes", f"{options.minutes:g}", "--dtype", options.dtype, "--num-prompts", str(options.num_prompts)]
            places = ["--num-spoken", str(options.num_spoken), "--semantic", options.semantic.resolve(), "--output", output]
            run_child([*command, *sizes, *places], cwd=manifests.parents[1], environment={"OMP_NUM_THREADS": "1"})
            row: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
            return row

        rows = list(pool.map(run, options.models))
    command = ["python -m benchmarks.acoustic_models --manifest-dir", str(options.manifest_dir), "--semantic", str(options.semantic)]
    command += ["--minutes", f"{options.minutes:g}", "--dtype", options.dtype]
    write_results(options.output, {**header(command), "minutes_each": options.minutes, "models": rows})
    print(f"written: {options.output}")


def measure(name: str, options: argparse.Namespace, *, work: Path) -> dict[str, Any]:
    """One model in this process, from the recipe's folder, from which manifests name their arrays."""
    torch.set_num_threads(1)
    before = Path.cwd()
    os.chdir(options.manifest_dir.resolve().parents[1])
    try:
        trained = train(name, options.manifest_dir, options.semantic, work / "exp", minutes=options.minutes, dtype=options.dtype)
        released = trained_model(checkpoint=None, exp_dir=work / "exp", epoch=0, avg=1, use_averaged_model=False)
        pipeline = Pipeline(released)
        voices = voice_report(pipeline, options.manifest_dir, VoiceTrialSettings(num_prompts=options.num_prompts))
        spoken = speak(pipeline, recordings(options.manifest_dir, pipeline.sample_rate, options.num_spoken))
    finally:
        os.chdir(before)
    controls = {kind: voices[kind] for kind in ("real", "round_trip", "shuffled")}
    return {"name": name, "corpus": "espeak", **trained, "voice_kept": voices["generated"], **spoken, "controls": controls}


def train(
    name: str, manifest_dir: Path, semantic: Path, exp_dir: Path, *, minutes: float, dtype: str = "auto", **changes: Any
) -> dict[str, Any]:
    """Train the acoustic stages alone, for so many minutes of this process -> what they score on dev."""
    options = AudioLMOptions(**{
        **SHAPE, **_crops(name), **MODELS[name], "acoustic_model": name, "train_stage": ",".join(stages_of(name)), "init_from": semantic,
        "manifest_dir": manifest_dir, "exp_dir": exp_dir, "max_minutes": minutes, "num_epochs": 100000, "valid_max_cuts": 60,
        "valid_interval": 10**9, "epoch_ends": False, "save_every_n": 0, "num_workers": 0, "num_threads": 1, "dtype": dtype,
        "device": "cpu", "tensorboard": False, **changes,
    })  # fmt: skip
    task = AudioLMTask(options)
    loop = Loop(task, options, World(), now=time.process_time)
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
    }  # fmt: skip


def stages_of(name: str) -> list[str]:
    """The acoustic stages of a model of eight levels."""
    return [stage.name for stage in acoustic_type(name).stage_types]


def _crops(name: str) -> dict[str, float]:
    return {f"{stage.name}_seconds": min(stage.crop_seconds, CROP_SECONDS) for stage in acoustic_type(name).stage_types}


def _rounded(row: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if row is None else {key: round(value, 1) for key, value in row.items()}


def recordings(manifest_dir: Path, sample_rate: int, count: int) -> list[Waveform]:
    """The first ``count`` test utterances with at least two seconds after the prompt."""
    cuts = (cut for cut in read_cuts(manifest_dir / "cuts_test.jsonl.gz") if cut.duration >= PROMPT_SECONDS + 2)
    return [resample(*read_cut(cut), sample_rate) for cut in islice(cuts, count)]


def speak(pipeline: Pipeline, wavs: Sequence[Waveform]) -> dict[str, Any]:
    """The sound of each recording's own units after its prompt, and how long a continuation takes by either engine."""
    rate, length = pipeline.sample_rate, max(len(wav) for wav in wavs) / pipeline.sample_rate
    how: dict[str, Any] = {"prompt_seconds": PROMPT_SECONDS, "max_seconds": length}
    generated, again = [], []
    for wav in wavs:
        [result] = pipeline.continue_audio([wav], rate, settings=ContinueSettings(mode="acoustic", **how), watermark=False)
        new = slice(result.prompt_samples, min(len(result.wav), len(wav)))
        levels = pipeline.model.config.num_quantizers
        round_trip = round_trips(pipeline.acoustic, wav, [levels])[1][str(levels)]
        generated.append(stoi(result.wav[new], wav[new], rate))
        again.append(stoi(round_trip[new], wav[new], rate))
    seconds = {engine: _seconds_for_ten(pipeline, engine, max(wavs, key=len)) for engine in ENGINES}
    return {
        "stoi": bootstrap_mean(generated).to_dict(), "stoi_of_round_trip": bootstrap_mean(again).to_dict(),
        "seconds_for_10s": seconds, "rtf": round(seconds["native"] / 10, 3),
    }  # fmt: skip


def _seconds_for_ten(pipeline: Pipeline, engine: Engine, wav: Waveform) -> float:
    """The better of two whole continuations by 10 s, units included, after a short one that prepares the kernels."""
    again = Pipeline(pipeline.released, engine=engine)
    again.continue_audio([wav], again.sample_rate, prompt_seconds=PROMPT_SECONDS, max_seconds=0.5)
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        again.continue_audio([wav], again.sample_rate, prompt_seconds=PROMPT_SECONDS, max_seconds=10.0, min_seconds=10.0)
        taken.append(time.perf_counter() - started)
    return round(min(taken), 2)


if __name__ == "__main__":
    main()
