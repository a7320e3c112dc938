#!/usr/bin/env python3
"""Peak memory of the programs, as GNU time measures it: stages 3 and 4 on a corpus and on one eight times as long, and infer.

  python -m benchmarks.memory --output benchmarks/results/memory.json

Every program is a child process whose largest resident size is read when it ends.  This one imports no torch, as a child
counts what its parent held when it was started.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import PROGRAMS, RESULTS, ROOT, Finished, figure, goal_lines, header, run_child, write_results

HOURS, TIMES = 0.25, 8  # of speech in the small corpus, and how much longer the large one is
FLAT = 1.15  # times the small corpus' peak
INFER_GIB = 1.5
BUNDLED_MODEL = ROOT / "valle" / "assets" / "audio-lm"
SAMPLES = ROOT / "valle" / "assets" / "samples"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="tiny sizes, for tests")
    parser.add_argument("--output", type=Path, default=RESULTS / "memory.json")
    options = parser.parse_args(arguments)
    fast = ["--fast"] if options.fast else []
    started = time.monotonic()
    results = header(["python -m benchmarks.memory", *fast])
    with tempfile.TemporaryDirectory() as folder:
        results["stages"] = measure_stages(Path(folder), hours=0.01 if options.fast else HOURS, times=2 if options.fast else TIMES)
        results["infer"] = measure_infer(Path(folder), seconds=0.4 if options.fast else 10.0, long_seconds=30 if options.fast else 600)
    results["wall_seconds"] = round(time.monotonic() - started, 1)
    write_results(options.output, results)
    print("\n".join([*goal_lines(results), f"written: {options.output}"]))


def measure_stages(folder: Path, *, hours: float, times: int) -> dict[str, Any]:
    """Stages 3 and 4 on ``hours`` of training speech and on ``times`` as many."""
    peaks: dict[str, list[Finished]] = {"stage_3": [], "stage_4": []}
    for factor in (1, times):
        corpus = folder / f"{factor}x"
        run_child([sys.executable, "-m", "benchmarks.corpus", corpus, "--hours", str(hours * factor)], cwd=ROOT)
        peaks["stage_3"].append(run_program("tokenize_cuts", cwd=corpus))
        peaks["stage_4"].append(run_program("finish_cuts", "--title", "benchmark", cwd=corpus))
    results: dict[str, Any] = {"hours": {"1x": hours, f"{times}x": hours * times}}
    for stage, (small, large) in peaks.items():
        results[stage] = {
            "1x_gib": gib(small),
            f"{times}x_gib": gib(large),
            "growth": figure([large.peak_bytes / small.peak_bytes], at_most=FLAT, means=f"peak at {times}x over peak at 1x"),
            "seconds": [round(run.seconds, 1) for run in (small, large)],
        }
    return results


def measure_infer(folder: Path, *, seconds: float, long_seconds: float) -> dict[str, Any]:
    """bin/infer.py with the bundled model if there is one, else with random weights of the demo's size."""
    bundled = BUNDLED_MODEL.is_dir()
    model = BUNDLED_MODEL if bundled else folder / "model"
    if not bundled:
        run_child([sys.executable, "-m", "benchmarks.continuing", "--save", model], cwd=ROOT)
    samples = sorted(SAMPLES.glob("*.flac"))
    long = long_recording(folder / "1x" / "download", folder / "long.wav", seconds=long_seconds)
    length = ("--max-seconds", seconds, "--min-seconds", seconds)
    runs = {
        "one_prompt": [samples[0], *length],
        "eight_at_once": [*samples[:4], "--num-samples", 2, "--batch-size", 8, *length],
        f"resynthesize_{long_seconds:g}_s": [long, "--mode", "resynthesize"],
    }
    results: dict[str, Any] = {"model": "bundled" if bundled else "random weights of the demo's size"}
    for name, (first, *rest) in runs.items():
        run = run_program("infer", "--model", model, "--output-dir", folder / name, "--audio-prompts", first, *rest, cwd=folder)
        results[name] = {"peak_gib": gib(run, at_most=INFER_GIB), "seconds": round(run.seconds, 1)}
    return results


def run_program(name: str, *flags: str | Path | float, cwd: Path) -> Finished:
    """A program of ``valle/bin`` in the folder ``cwd``."""
    return run_child([sys.executable, PROGRAMS / f"{name}.py", *map(str, flags)], cwd=cwd)


def gib(run: Finished, *, at_most: float | None = None) -> dict[str, Any]:
    return figure([run.peak_bytes / 2**30], at_most=at_most)


def long_recording(folder: Path, path: Path, *, seconds: float) -> Path:
    """One wav out of the corpus' own, end to end."""
    frames = b""
    sources = sorted(folder.rglob("*.wav"))
    with wave.open(str(path), "wb") as output:
        for source in sources * 100:
            with wave.open(str(source)) as recording:
                if not frames:
                    output.setparams(recording.getparams())
                frames = recording.readframes(recording.getnframes())
            output.writeframes(frames)
            if output.tell() >= seconds * output.getframerate():
                return path
    raise RuntimeError(f"expected wavs in {folder}, found {len(sources)}, too short for {seconds:g} s")


if __name__ == "__main__":
    main()
