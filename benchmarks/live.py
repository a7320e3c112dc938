#!/usr/bin/env python3
"""Live: how long a listener waits for the first audio after a prompt, and the work of a second of new audio.

  python -m benchmarks.live --output benchmarks/results/live.json
  python -m benchmarks.live --model exp/released --block-seconds 0.3 --prompts 50

Prompts come in pieces of 50 ms, as from a microphone, but as fast as they are encoded: what is counted begins with their end.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import ROOT, goal_lines, header, write_results
from valle.audio import Waveform, read_audio
from valle.inference.pipeline import ContinueSettings, Pipeline

RESULTS = ROOT / "benchmarks" / "results"
SAMPLES = ROOT / "valle" / "assets" / "samples"
PIECE_SECONDS = 0.05
FIRST_AUDIO_MS, LATEST_AUDIO_MS, RTF = 200, 400, 0.6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a released folder or a name on the hub; the bundled model if not given")
    parser.add_argument("--audio", type=Path, default=SAMPLES, help="a folder of recordings that prompts are taken from")
    parser.add_argument("--prompts", type=int, default=50, help="streams that are measured")
    parser.add_argument("--prompt-seconds", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of new audio a stream")
    parser.add_argument("--chunk-seconds", type=float, default=0.1)
    parser.add_argument("--block-seconds", type=float, default=None)
    parser.add_argument("--engine", default="auto", choices=["auto", "torch", "native"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "live.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = header(["python -m benchmarks.live"])
    results["settings"] = {name: value if isinstance(value, int | float) else str(value) for name, value in vars(options).items()}
    results.update(measure(Pipeline.from_pretrained(options.model, engine=options.engine), options))
    write_results(options.output, results)
    print("\n".join([*goal_lines(results), f"written: {options.output}"]))


def measure(pipeline: Pipeline, options: argparse.Namespace) -> dict[str, Any]:
    """``first_audio_ms`` and ``rtf`` over all streams but a first one, which warms up."""
    rate = pipeline.sample_rate
    settings = ContinueSettings(
        prompt_seconds=options.prompt_seconds, max_seconds=options.seconds, min_seconds=options.seconds, block_seconds=options.block_seconds
    )
    prompts = list(prompts_of(options.audio, rate, seconds=options.prompt_seconds, count=options.prompts + 1))
    waited, factors, longest_gap = list[float](), list[float](), list[float]()
    for number, wav in enumerate(prompts):
        arriving = pieces(wav, round(PIECE_SECONDS * rate))
        live = pipeline.stream(arriving, rate, seed=number, settings=settings, chunk_seconds=options.chunk_seconds)
        arrivals = [(time.perf_counter(), len(chunk) / rate) for chunk in live]
        if number:
            assert live.first_audio_seconds is not None
            waited.append(1000 * live.first_audio_seconds)
            factors.append(live.real_time_factor)
            longest_gap.append(1000 * start_delay(arrivals))
    median, latest = np.percentile(waited, [50, 95])
    rtf = float(np.median(factors))
    return {
        "first_audio_ms": {"p50": figure_of(median, FIRST_AUDIO_MS), "p95": figure_of(latest, LATEST_AUDIO_MS)},
        "rtf": figure_of(rtf, RTF),
        "buffer_ms": {"p50": round(float(np.median(longest_gap)), 1), "p95": round(float(np.percentile(longest_gap, 95)), 1)},
        "streams": len(waited),
        "steps_taken_by": pipeline.steps_taken_by,
    }


def start_delay(arrivals: Sequence[tuple[float, float]]) -> float:
    """Seconds that a player must wait after the first of ``arrivals`` (when, seconds of sound) so that it never runs dry."""
    first, played, wait = arrivals[0][0], 0.0, 0.0
    for when, seconds in arrivals:
        wait = max(wait, when - first - played)
        played += seconds
    return wait


def figure_of(value: float, at_most: float) -> dict[str, Any]:
    return {"value": round(float(value), 3), "goal": f"at most {at_most:g}", "met": bool(value <= at_most)}


def prompts_of(folder: Path, rate: int, *, seconds: float, count: int) -> Iterator[Waveform]:
    """The beginnings of the folder's recordings, round and round, each time a tenth of a second later."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".wav", ".flac"))
    for number in range(count):
        offset = 0.1 * (number // len(files))
        yield read_audio(files[number % len(files)], sample_rate=rate, offset=offset, duration=seconds)[0]


def pieces(wav: Waveform, size: int) -> Iterator[Waveform]:
    for first in range(0, len(wav), size):
        yield wav[first : first + size]


if __name__ == "__main__":
    main()
