#!/usr/bin/env python3
"""Blocks of a stage that looks ahead: voice kept, time to the first audio and work, by the length of a block.

  python -m benchmarks.live_blocks --model exp/released --data-dir data/tokenized

Short blocks start sooner, cost more and show the stage less of what follows.  The voice is judged of what is made offline with the same
blocks, which is the same audio.  Times are of prompts that arrive in pieces of 50 ms, all lengths in turns on each prompt.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, figure, header, merge_results
from benchmarks.live import PIECE_SECONDS, SAMPLES, pieces, prompts_of
from valle.audio import Waveform
from valle.evaluation.voice_report import VoiceTrialSettings, voice_report
from valle.inference.continuation import ContinueSettings
from valle.inference.live import BLOCK_SECONDS
from valle.inference.pipeline import Pipeline
from valle.live.models import ModelShelf

SECONDS = (0.1, 0.2, 0.3, 0.5, 1.0)
NEW_SECONDS = 4.0


@dataclass(frozen=True)
class Blocks:
    """One row of the table."""

    name: str
    block_seconds: float | None
    first_block_seconds: tuple[float, ...] = ()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a released folder")
    parser.add_argument("--data-dir", type=Path, help="cuts whose supervisions name speakers; not given: voices are not judged again")
    parser.add_argument("--num-prompts", type=int, default=48, help="whose voice is judged")
    parser.add_argument("--timed-prompts", type=int, default=10)
    parser.add_argument("--engine", default="auto", choices=["auto", "torch", "native"])
    parser.add_argument("--output", type=Path, default=RESULTS / "live_blocks.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    [pipeline] = ModelShelf.load([options.model], device="cpu", dtype="float32", engine=options.engine).values()
    rows = [usual(pipeline), *(Blocks(f"{seconds:g} s", seconds) for seconds in SECONDS), Blocks("window of the stage", None)]
    results = header(["python -m benchmarks.live_blocks --model exp/released --data-dir data/tokenized"])
    results["timed"] = timed(pipeline, [row for row in rows if row.block_seconds], prompts=options.timed_prompts)
    if options.data_dir is not None:
        results["judged"] = {row.name: judged(pipeline, row, options) for row in rows}
    merge_results(options.output, results)
    print(f"written: {options.output}")


def usual(pipeline: Pipeline) -> Blocks:
    """Those of a stream that is asked for none, after a prompt of three seconds."""
    silence = np.zeros(3 * pipeline.sample_rate, np.float32)
    with pipeline.stream(silence, pipeline.sample_rate, max_seconds=0.1) as chunks:
        next(chunks)
        chosen = chunks.settings
    assert chosen.block_seconds == BLOCK_SECONDS
    return Blocks("as streamed", chosen.block_seconds, tuple(chosen.first_block_seconds))


def timed(pipeline: Pipeline, rows: Sequence[Blocks], *, prompts: int) -> dict[str, Any]:
    """``first_audio_ms`` and ``rtf`` of each row; a first prompt warms up."""
    waited: dict[str, list[tuple[float, float]]] = {row.name: [] for row in rows}
    for number, wav in enumerate(prompts_of(SAMPLES, pipeline.sample_rate, seconds=3.0, count=prompts + 1)):
        for row in rows:
            measured = listen(pipeline, wav, row, seed=number)
            if number:
                waited[row.name].append(measured)
    return {
        row.name: {
            "block_seconds": row.block_seconds, "first_block_seconds": row.first_block_seconds,
            "first_audio_ms": figure([first for first, _ in waited[row.name]], digits=1),
            "rtf": figure([factor for _, factor in waited[row.name]]),
        }
        for row in rows
    }  # fmt: skip


def listen(pipeline: Pipeline, wav: Waveform, row: Blocks, *, seed: int) -> tuple[float, float]:
    """Milliseconds to the first audio, and the real-time factor."""
    asked = ContinueSettings(
        prompt_seconds=10.0, max_seconds=NEW_SECONDS, min_seconds=NEW_SECONDS, block_seconds=row.block_seconds,
        first_block_seconds=row.first_block_seconds,
    )  # fmt: skip
    coming: Iterator[Waveform] = pieces(wav, round(PIECE_SECONDS * pipeline.sample_rate))
    with pipeline.stream(coming, pipeline.sample_rate, seed=seed, settings=asked) as chunks:
        for _ in chunks:
            pass
        assert chunks.first_audio_seconds is not None
        return 1000 * chunks.first_audio_seconds, chunks.real_time_factor


def judged(pipeline: Pipeline, row: Blocks, options: argparse.Namespace) -> dict[str, Any]:
    """The share of continuations that keep the prompt's voice, beside its bounds."""
    settings = VoiceTrialSettings(
        num_prompts=options.num_prompts, block_seconds=row.block_seconds, first_block_seconds=row.first_block_seconds
    )  # fmt: skip
    report = voice_report(pipeline, options.data_dir, settings)
    return {name: report[name] for name in ("generated", "round_trip", "shuffled", "real", "num_voices")}


if __name__ == "__main__":
    main()
