#!/usr/bin/env python3
"""At which level the bundled model goes on with prompts that are quieter and quieter, and what it hears in them.

  python -m benchmarks.levels --recordings LibriSpeech/test-other

Every prompt is multiplied by a factor, as floats or in 16 bits, and continued. The level of the continuation is compared with the
prompt's own, and the prompt's units and level-0 codes with those of the same prompt as it was recorded. A judge of voices is fitted
on other recordings of the same speakers (LibriSpeech's layout: SPEAKER/CHAPTER/*.flac).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import RESULTS, header, write_results
from valle.audio import Waveform, read_audio
from valle.evaluation.voices import VoiceClip, VoiceJudge
from valle.inference.pipeline import Continuation, ContinueSettings, Pipeline
from valle.measures.intervals import share
from valle.measures.level import Level, active_level

PROMPT_SECONDS, NEW_SECONDS, SEED = 3.0, 4.0, 1
FACTORS_DB = (0, -10, -20, -30, -40, -50)
WITHOUT_DB = (0, -40)  # the same with the level left as it is
BITS_DB = (-20, -40)
TABLE: tuple[tuple[Level, str, tuple[int, ...]], ...] = (
    ("speech", "float", FACTORS_DB), ("speech", "16 bits", BITS_DB), ("none", "float", WITHOUT_DB),
)  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """The beginning of a recording, and what was really said after it."""

    speaker: str
    wav: Waveform
    real: Waveform


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True, help="folder of SPEAKER/CHAPTER/*.flac")
    parser.add_argument("--prompts", type=int, default=2, help="of each speaker")
    parser.add_argument("--output", type=Path, default=RESULTS / "levels.json")
    options = parser.parse_args(arguments)
    pipeline = Pipeline.from_pretrained()
    prompts, clips = read_prompts(options.recordings, options.prompts, pipeline.sample_rate)
    judge = VoiceJudge(clips, pipeline.sample_rate)
    results = header(["python -m benchmarks.levels", "--recordings", str(options.recordings)])
    real = [difference(prompt.real, prompt.wav, pipeline.sample_rate) for prompt in prompts]
    results.update(num_prompts=len(prompts), num_voices=len(judge.voices), real={"difference_db": spread(real)}, rows=[])
    before: list[Continuation] = []
    for level, sort, factors in TABLE:
        for db in factors:
            outputs = run(pipeline, prompts, db, sort, level)
            before = before or outputs
            results["rows"].append({"level": level, "samples": sort, "factor_db": db, **compare(pipeline, prompts, outputs, before, judge)})
            print(results["rows"][-1], flush=True)
    write_results(options.output, results)
    print(f"written: {options.output}")


def read_prompts(folder: Path, number: int, rate: int) -> tuple[list[Prompt], list[VoiceClip]]:
    """The first recordings of every speaker that are long enough, and all others to know the voices by."""
    prompts, clips = [], []
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        taken = 0
        for path in sorted(speaker.rglob("*.flac")):
            wav, _ = read_audio(path, sample_rate=rate)
            cut, end = round(PROMPT_SECONDS * rate), round((PROMPT_SECONDS + NEW_SECONDS) * rate)
            if taken < number and len(wav) >= end:
                prompts.append(Prompt(speaker.name, wav[:cut], wav[cut:end]))
                taken += 1
            else:
                clips.append(VoiceClip(path.stem, speaker.name, wav))
    return prompts, clips


def run(pipeline: Pipeline, prompts: Sequence[Prompt], db: float, sort: str, level: Level) -> list[Continuation]:
    rows: list[NDArray[Any]] = [(prompt.wav * 10 ** (db / 20)).astype(np.float32) for prompt in prompts]
    if sort == "16 bits":
        rows = [np.round(row * 32768).astype(np.int16) for row in rows]
    settings = ContinueSettings(level=level, prompt_seconds=PROMPT_SECONDS, max_seconds=NEW_SECONDS, min_seconds=NEW_SECONDS)
    return pipeline.continue_audio(rows, pipeline.sample_rate, seed=SEED, settings=settings, watermark=False)


def compare(
    pipeline: Pipeline, prompts: Sequence[Prompt], outputs: Sequence[Continuation], before: Sequence[Continuation], judge: VoiceJudge
) -> dict[str, Any]:
    """Level, tokens and voice of continuations, beside the prompts and the tokens of ``before``."""
    rate = pipeline.sample_rate
    generated = [output.wav[output.prompt_samples :] for output in outputs]
    levels = [difference(new, output.wav[: output.prompt_samples], rate) for new, output in zip(generated, outputs, strict=True)]
    named = [judge.name_voice(new) for new in generated]
    found: dict[str, Any] = {"difference_db": spread(levels)}
    for stream in ("units", "codes"):
        agree = [_agreement(stream, one, two, pipeline) for one, two in zip(outputs, before, strict=True)]
        found[stream] = round(float(torch.cat(agree).float().mean()), 4)
    kept = sum(name == prompt.speaker for name, prompt in zip(named, prompts, strict=True))
    return {**found, "voice": share(kept, len(prompts)).to_dict()}


def difference(new: Waveform, prompt: Waveform, rate: int) -> float:
    """Active level of ``new`` less that of ``prompt``, dB; silence counts as 100 dB below."""
    levels = active_level(new, rate), active_level(prompt, rate)
    return -100.0 if levels[0] is None or levels[1] is None else levels[0] - levels[1]


def spread(values: Sequence[float]) -> dict[str, float]:
    within = sum(abs(value) <= 3 for value in values) / len(values)
    return {
        "median": round(median(values), 2), "least": round(min(values), 2), "most": round(max(values), 2), "within_3_db": round(within, 3)
    }  # fmt: skip


def _agreement(stream: str, one: Continuation, two: Continuation, pipeline: Pipeline) -> torch.Tensor:
    """Which of the prompt's own tokens are the same."""
    frames = min(one.own_samples, two.own_samples) // pipeline.acoustic.hop_length
    if stream == "codes":
        return one.codes[:frames, 0] == two.codes[:frames, 0]
    assert one.units is not None and two.units is not None
    units = pipeline.timeline.units_for_frames(frames)
    return one.units[:units] == two.units[:units]


if __name__ == "__main__":
    main()
