#!/usr/bin/env python3
"""Every acoustic model on the same tokens, at equal time and about equal size, behind one semantic stage.

  python -m benchmarks.acoustic_models --manifest-dir egs/espeak/data/tokenized --semantic egs/espeak/exp/demo/best-valid-loss.pt \\
    --tune-manifest-dir egs/librispeech/data/tokenized --whisper FOLDER --work-dir exp/acoustic

Each learns by itself, by processor time of one thread, so that other programs on the machine change nothing. Then it speaks: after
3 s of each prompt along the recording's own units (its STOI beside that of the codec's round trip of the same seconds), and along
new units (the share of prompts whose voice it keeps).  --tune-manifest-dir has tokens of another corpus by the same tokenizers, on
which each goes on from there; the same is measured again, and with --whisper the words that a recogniser hears of recordings' own
units.  Time and memory of 10 s of new audio are measured last, in turns.  What --work-dir has already is not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch

from benchmarks.acoustic_measures import (
    MODELS,
    kept_voices,
    memory_of_ten_seconds,
    recordings,
    seconds_for_ten,
    speak,
    spoken_texts,
    train,
    trained_pipeline,
    words_of_model,
    words_of_recordings,
)
from benchmarks.common import RESULTS, figure, header, run_child, write_results
from valle.evaluation.recogniser import whisper_recogniser

PARTS = ("row", "tuned", "memory")  # what a process of its own does, by the name of the file that it writes
CONTROLS = ("real", "round_trip", "shuffled")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest-dir", type=Path, required=True, help="data/tokenized of a recipe with units")
    parser.add_argument("--semantic", type=Path, required=True, help="checkpoint or released folder whose semantic stage all share")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--minutes", type=float, default=6.0, help="of processor time, each")
    parser.add_argument("--dtype", default="auto", help="number format of training")
    parser.add_argument("--num-prompts", type=int, default=64, help="whose voice is judged")
    parser.add_argument("--num-spoken", type=int, default=24, help="recordings that are spoken along their own units")
    parser.add_argument("--tune-manifest-dir", type=Path, help="data/tokenized of another recipe, by the same tokenizers, to go on with")
    parser.add_argument("--tune-minutes", type=float, default=2.5, help="of processor time, each")
    parser.add_argument("--whisper", help="folder of a Whisper for CTranslate2: words are heard of what is spoken after tuning")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time, one thread each")
    parser.add_argument("--output", type=Path, default=RESULTS / "acoustic_models.json")
    parser.add_argument("--work-dir", type=Path, help="keep the runs here, and go on with what is there")
    parser.add_argument("--only", choices=MODELS, help="one model in this process; what the benchmark does for each")
    parser.add_argument("--part", choices=PARTS, default="row", help="of --only: train and measure, tune and measure, or memory")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in ("manifest_dir", "tune_manifest_dir", "semantic", "work_dir", "output"):
        if getattr(options, name) is not None:
            setattr(options, f"{name}_given", getattr(options, name))
            setattr(options, name, getattr(options, name).resolve())
    if options.whisper and Path(options.whisper).is_dir():
        options.whisper = str(Path(options.whisper).resolve())
    if options.only:
        options.output.write_text(json.dumps(measure_part(options.only, options.part, options)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work_dir or Path(scratch)
        rows = all_rows(options, work)
    results = {"minutes_each": options.minutes, "tune_minutes": options.tune_minutes if options.tune_manifest_dir else None}
    slowest = figure([max(row["rtf"] for row in rows)], at_most=1.0, means="work per second of new audio, native step, slowest model")
    write_results(options.output, {**header(command_of(options)), **results, "slowest_rtf": slowest, "models": rows})
    print(f"written: {options.output}")


def command_of(options: argparse.Namespace) -> list[str]:
    """The command as it was given, with the folder of Whisper left out."""
    words = ["python -m benchmarks.acoustic_models --manifest-dir", options.manifest_dir_given, "--semantic", options.semantic_given]
    words += ["--minutes", f"{options.minutes:g}", "--num-prompts", options.num_prompts, "--num-spoken", options.num_spoken]
    if options.tune_manifest_dir is not None:
        words += ["--tune-manifest-dir", options.tune_manifest_dir_given, "--tune-minutes", f"{options.tune_minutes:g}"]
    return [str(word) for word in words] + (["--whisper FOLDER"] if options.whisper else [])


def all_rows(options: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Everything that is not in ``work`` yet is measured; then all of it as rows."""
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda name: in_child(name, "row", options, work), options.models))
        tuned = []
        if options.tune_manifest_dir is not None:
            tuned = list(pool.map(lambda name: in_child(name, "tuned", options, work), options.models))
    memory = [in_child(name, "memory", options, work) for name in options.models]

    def timed() -> Any:
        with chdir(options.manifest_dir.parents[1]):
            runs = {name: work / name / "exp" for name in options.models}
            return seconds_for_ten(runs, longest_recording(options, runs[options.models[0]]))

    def control_words() -> Any:
        with chdir(options.tune_manifest_dir.parents[1]):
            cuts = spoken_texts(options.tune_manifest_dir, options.num_spoken)
            pipeline = trained_pipeline(work / options.models[0] / "exp")
            return words_of_recordings(pipeline, whisper_recogniser(options.whisper), cuts)

    seconds = once(work / "seconds.json", timed)
    words = once(work / "words.json", control_words) if tuned and options.whisper else {}
    for row in tuned:
        row["controls"]["words"] = {**words, **row["controls"].get("words", {})}
    for number, row in enumerate([*rows, *tuned]):
        taken = seconds[row["name"]]
        row.update(seconds_for_10s=taken, rtf=round(taken["native"] / 10, 3), **memory[number % len(memory)])
        row.setdefault("wer", None)
    return [*rows, *tuned]


def once(path: Path, work: Callable[[], Any]) -> Any:
    """What ``work`` gives, kept in a file."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(work()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def in_child(name: str, part: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One part of one model in a process of its own, unless its file is there."""
    output = work / name / f"{part}.json"
    if not output.is_file():
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "benchmarks.acoustic_models", "--only", name, "--part", part, "--output", output]
        command += ["--manifest-dir", options.manifest_dir, "--semantic", options.semantic, "--dtype", options.dtype]
        command += ["--minutes", f"{options.minutes:g}", "--tune-minutes", f"{options.tune_minutes:g}"]
        command += ["--num-prompts", str(options.num_prompts), "--num-spoken", str(options.num_spoken)]
        if options.tune_manifest_dir is not None:
            command += ["--tune-manifest-dir", options.tune_manifest_dir]
        command += ["--whisper", options.whisper] if options.whisper else []
        run_child(command, cwd=options.manifest_dir.parents[1], environment={"OMP_NUM_THREADS": "1"})
    row: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return row


def measure_part(name: str, part: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the file of one part holds; ``options.output`` lies in the model's folder."""
    exp_dir = options.output.parent / "exp"
    if part == "memory":
        with chdir(options.manifest_dir.parents[1]):
            return {"memory_mib": memory_of_ten_seconds(exp_dir, longest_recording(options, exp_dir))}
    if part == "row":
        return measure(name, options, options.manifest_dir, exp_dir, options.semantic, options.minutes)
    best, tuned = exp_dir / "best-valid-loss.pt", options.output.parent / "tuned"
    return measure(name, options, options.tune_manifest_dir, tuned, best, options.tune_minutes, tuned=True)


def longest_recording(options: argparse.Namespace, exp_dir: Path) -> Any:
    return max(recordings(options.manifest_dir, trained_pipeline(exp_dir).sample_rate, options.num_spoken), key=len)


def measure(
    name: str, options: argparse.Namespace, manifest_dir: Path, exp_dir: Path, init_from: Path, minutes: float, *, tuned: bool = False
) -> dict[str, Any]:
    """Train from ``init_from`` into ``exp_dir`` -> the row of one model on one corpus, without time and memory."""
    with chdir(manifest_dir.parents[1]):
        trained = train(name, manifest_dir, init_from, exp_dir, minutes=minutes, dtype=options.dtype, tuned=tuned)
        pipeline = trained_pipeline(exp_dir)
        voices = kept_voices(pipeline, manifest_dir, options.num_prompts)
        row = {
            "name": name, "corpus": manifest_dir.parents[1].name, **trained, "voice_kept": voices["generated"],
            **speak(pipeline, recordings(manifest_dir, pipeline.sample_rate, options.num_spoken)),
        }  # fmt: skip
        controls = {kind: voices[kind] for kind in CONTROLS}
        if tuned and options.whisper:
            words = words_of_model(pipeline, whisper_recogniser(options.whisper), spoken_texts(manifest_dir, options.num_spoken))
            row |= {"wer": words["generated"]["wer"], "words_trusted": words["generated"]["trusted"]}
            controls["words"] = {"babble": words["babble"]}
    return {**row, "controls": controls}


if __name__ == "__main__":
    main()
