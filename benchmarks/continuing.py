"""From wav to wav: what a second of continuation costs with a model of the demo's size and the bundled tokenizers.

The weights are random, which changes what is heard and not what it costs: no end is drawn before the last second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.common import figure
from benchmarks.tokenizing import SAMPLES
from benchmarks.training import DEMO
from valle.audio import read_audio
from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.models import AudioLM
from valle.models.released import Released, save_released
from valle.timeline import Timeline
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, BUNDLED_SEMANTIC, load_acoustic, load_semantic


def demo_sized_model() -> Released:
    """Random weights in the sizes of conf/demo.yaml, with the bundled tokenizers."""
    settings = yaml.safe_load(DEMO.read_text())
    acoustic, semantic = load_acoustic(BUNDLED_ACOUSTIC), load_semantic(BUNDLED_SEMANTIC)
    timeline = Timeline(codes=acoustic.identity.grid, units=semantic.identity.grid)
    torch.manual_seed(0)
    model = AudioLM(
        d_model=settings["decoder_dim"], nhead=settings["nhead"], num_layers=settings["num_decoder_layers"],
        dim_feedforward=settings["dim_feedforward"], num_quantizers=settings["num_quantizers"], codebook_size=acoustic.codebook_size,
        num_units=semantic.num_units, units_per_period=timeline.units_per_period, frames_per_period=timeline.frames_per_period,
    ).eval()  # fmt: skip
    trained = {stage: float(settings[f"{stage}_seconds"]) for stage in model.stages()}
    return Released(model=model, timeline=timeline, acoustic=acoustic, semantic=semantic, trained_seconds=trained)


def bench_infer(*, fast: bool = False) -> dict[str, Any]:
    """Real-time factor of three seconds of prompt and ten of continuation, a row at a time and eight together."""
    seconds, repeats = (0.4, 1) if fast else (10.0, 5)
    settings = ContinueSettings(prompt_seconds=3.0, max_seconds=seconds, min_seconds=seconds)
    pipeline = Pipeline(demo_sized_model())
    rate = pipeline.sample_rate
    prompts = [read_audio(path, sample_rate=rate)[0] for path in sorted(SAMPLES.glob("*.flac"))]
    factors: dict[int, list[float]] = {1: [], 8: []}
    for number in range(repeats + 1):
        for batch, measured in factors.items():  # by turns, so that a busy machine slows both
            rows = [prompts[row % len(prompts)] for row in range(batch)]
            started = time.perf_counter()
            continued = pipeline.continue_audio(rows, rate, seed=list(range(batch)), settings=settings)
            if number:  # the first warms up
                measured.append((time.perf_counter() - started) / sum(row.generated_seconds for row in continued))
    return {
        "threads": torch.get_num_threads(),
        "generated_seconds_a_row": seconds,
        **{
            f"batch {batch}": {"rtf": figure(measured, means="seconds of work a second of new audio, all rows together")}
            for batch, measured in factors.items()
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", type=Path, required=True, help="write the model as a released folder, for bin/infer.py --model")
    save_released(demo_sized_model(), parser.parse_args().save)
