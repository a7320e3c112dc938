#!/usr/bin/env python3
"""Continuous batches beside static ones: the bundled model continues ragged prompts, whose rows end when they draw an end.

  python -m benchmarks.continuous --prompts 64 --output benchmarks/results/continuous.json

Static: so many prompts at once, and the next ones when the last of them has ended.  Continuous: a row that ends makes room for the next
(``Pipeline.continue_each``).  Both by turns on one thread, with the same prompts and seeds, so that rows have the same tokens.  Tokens are
units and coarse codes; the time is that of all stages and of the sound, by processor, so that other programs change little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, figure, header, write_results
from benchmarks.tokenizing import SAMPLES
from valle.audio import Waveform, read_audio
from valle.inference.pipeline import Continuation, ContinueSettings, Pipeline

PROMPT_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--engine", choices=("torch", "native"), default="native")
    parser.add_argument("--output", type=Path, default=RESULTS / "continuous.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pipeline = Pipeline.from_pretrained(engine=options.engine)
    prompts = ragged_prompts(options.prompts, pipeline.sample_rate)
    measured = measure(pipeline, prompts, batch_size=options.batch_size, max_seconds=options.max_seconds, rounds=options.rounds)
    sizes = ["--prompts", str(options.prompts), "--batch-size", str(options.batch_size), "--max-seconds", f"{options.max_seconds:g}"]
    command = ["python -m benchmarks.continuous", *sizes, "--rounds", str(options.rounds), "--engine", options.engine]
    write_results(options.output, {**header(command), **measured})
    print(measured)


def ragged_prompts(count: int, sample_rate: int) -> list[Waveform]:
    """Beginnings of the packaged recordings, from half of ``PROMPT_SECONDS`` on."""
    wavs = [read_audio(path, sample_rate=sample_rate)[0] for path in sorted(SAMPLES.glob("*.flac"))]
    lengths = np.random.default_rng(0).uniform(0.5 * PROMPT_SECONDS, PROMPT_SECONDS, count)
    return [wavs[number % len(wavs)][: round(length * sample_rate)] for number, length in enumerate(lengths)]


def measure(pipeline: Pipeline, prompts: Sequence[Waveform], *, batch_size: int, max_seconds: float, rounds: int) -> dict[str, Any]:
    """Tokens a second of both, and whether the tokens are the same."""
    settings = ContinueSettings(prompt_seconds=PROMPT_SECONDS, max_seconds=max_seconds)
    seeds, rate = list(range(len(prompts))), pipeline.sample_rate

    def static() -> list[Continuation]:
        done: list[Continuation] = []
        for first in range(0, len(prompts), batch_size):
            some = slice(first, first + batch_size)
            done += pipeline.continue_audio(list(prompts[some]), rate, seed=seeds[some], settings=settings)
        return done

    def continuous() -> list[Continuation]:
        return list(pipeline.continue_each(prompts, rate, seed=seeds, settings=settings, batch_size=batch_size))

    ways: dict[str, Callable[[], list[Continuation]]] = {"static": static, "continuous": continuous}
    pipeline.continue_audio(list(prompts[:1]), rate, settings=ContinueSettings(max_seconds=0.5))  # kernels
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rows: dict[str, list[Continuation]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            rows[name] = way()
            seconds[name].append(time.process_time() - started)
    tokens = sum(len(row.codes) + (0 if row.units is None else len(row.units)) for row in rows["static"])
    new = [row.generated_seconds for row in rows["static"]]
    same = [torch.equal(one.codes, two.codes) for one, two in zip(rows["static"], rows["continuous"], strict=True)]
    return {
        **{f"{name}_tokens_per_s": figure([tokens / taken for taken in measured], digits=1) for name, measured in seconds.items()},
        "continuous_over_static": figure([one / two for one, two in zip(*seconds.values(), strict=True)]),
        "rows": len(prompts), "rows_with_the_same_tokens": sum(same), "batch_size": batch_size,
        "new_seconds_a_row": {"mean": round(float(np.mean(new)), 2), "least": round(min(new), 2), "most": round(max(new), 2)},
        "steps_taken_by": pipeline.steps_taken_by,
    }  # fmt: skip


if __name__ == "__main__":
    main()
