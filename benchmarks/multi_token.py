#!/usr/bin/env python3
"""Multi-token prediction: tokens a step, and how much faster decoding gets, by the number of drafts.

  python -m benchmarks.multi_token --manifest-dir egs/espeak/data/tokenized --minutes 8

Three models are trained with the demo's settings for the same minutes: without draft heads, with independent and with chained ones.
Each with heads then continues the beginnings of dev cuts, plainly and by 1 to 4 drafts in turns, a row at a time and eight
together, by either step.  --exp-dirs measures runs that are trained already: independent=exp/one chained=exp/other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import PROGRAMS, RESULTS, ROOT, header, run_child, write_results
from valle.data.dataset import Tokens, read_tokens
from valle.decoding.sampling import Drafts, Sampling
from valle.errors import UserError
from valle.inference.trained_model import trained_model
from valle.models.released import Released
from valle.modules.transformer import Engine, Stepping
from valle.tokenizing.token_manifests import read_manifests

DEMO = ROOT / "egs" / "espeak" / "conf" / "demo.yaml"
STAGES = ("semantic", "coarse")
HEADS = 4
VARIANTS = {
    "none": (),
    "independent": ("--semantic-drafts", str(HEADS), "--coarse-drafts", str(HEADS)),
    "chained": ("--semantic-drafts", str(HEADS), "--coarse-drafts", str(HEADS), "--chained-drafts", "true"),
}


@dataclass(frozen=True)
class Span:
    """What is continued: seconds of prompt and of continuation, rows, and repetitions of every measurement."""

    prompt: float = 2.0
    new: float = 4.0
    rows: int = 8
    repeats: int = 5
    batches: tuple[int, ...] = (1, 8)
    engines: tuple[Engine, ...] = ("torch", "native")  # that take the steps


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest-dir", type=Path, required=True, help="data/tokenized of a recipe")
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training run")
    parser.add_argument("--exp-dirs", nargs="*", default=[], help="name=folder of runs with draft heads; not given: they are trained")
    parser.add_argument("--output", type=Path, default=RESULTS / "multi_token.json")
    parser.add_argument("--train-options", default="", help='more flags for the trainer, in one word: "--decoder-dim 32 --nhead 2"')
    options = parser.parse_args(arguments)
    command = ["python -m benchmarks.multi_token --manifest-dir", str(options.manifest_dir)]
    with tempfile.TemporaryDirectory() as scratch:
        runs = {name: Path(folder) for name, _, folder in (given.partition("=") for given in options.exp_dirs)}
        if runs:
            command += ["--exp-dirs", *options.exp_dirs]
        else:
            command += ["--minutes", f"{options.minutes:g}"]
            command += [f'--train-options "{options.train_options}"'] if options.train_options else []
            runs = {name: Path(scratch) / name for name in VARIANTS}
            for name, folder in runs.items():
                print(f"training: draft heads, {name}", file=sys.stderr, flush=True)
                train(name, options.manifest_dir.resolve(), folder, minutes=options.minutes, more=options.train_options.split())
        summaries = {name: json.loads((folder / "summary.json").read_text()) for name, folder in runs.items()}
        with_heads = {name: folder for name, folder in runs.items() if name != "none"}
        results = {
            "valid_nll": {name: {stage: round(summary[stage]["valid_nll"], 4) for stage in STAGES} for name, summary in summaries.items()},
            "mtp": [row for name, folder in with_heads.items() for row in measure(name, folder, options.manifest_dir.resolve(), Span())],
        }
    write_results(options.output, {**header(command), **results})
    print(f"{table(results['mtp'])}written: {options.output}")


def train(name: str, manifest_dir: Path, exp_dir: Path, *, minutes: float, more: Sequence[str] = ()) -> None:
    """One run of both stages."""
    run_child(
        [
            sys.executable, PROGRAMS / "trainer_audiolm.py", "--config", DEMO, "--manifest-dir", manifest_dir, "--exp-dir", exp_dir,
            "--train-stage", ",".join(STAGES), "--max-minutes", f"{minutes:g}", "--num-epochs", "100000", *VARIANTS[name], *more,
        ],
        cwd=manifest_dir.parents[1],  # manifests name their arrays from there
    )  # fmt: skip


def measure(name: str, exp_dir: Path, manifest_dir: Path, span: Span) -> list[dict[str, Any]]:
    """A row for every stage, engine, batch size and number of drafts of one run; one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        released = trained_model(checkpoint=None, exp_dir=exp_dir, epoch=0, avg=1, use_averaged_model=False)
        examples = dev_examples(released, manifest_dir, span)
        return [
            {"stage": stage, "heads": name, **row}
            for stage in STAGES
            for engine in span.engines
            if engine == "torch" or find_spec("numba") is not None
            for batch in span.batches
            for row in measure_stage(
                released.model.eval().stages()[stage], continuing(stage, released, examples, span), batch, span, engine=engine
            )
        ]
    finally:
        torch.set_num_threads(before)


def measure_stage(
    stage: nn.Module, decode: Callable[[int, Sampling], list[Tensor]], batch: int, span: Span, *, engine: Engine
) -> list[dict[str, Any]]:
    """Plain decoding and every number of drafts by turns, so that a busy machine slows all of them; steps are counted beforehand."""
    sampling: Sampling = stage.sampling
    ways = [sampling, *(replace(sampling, drafts=Drafts(number)) for number in range(1, stage.num_drafts + 1))]
    steps = []
    for way in ways:
        with counted_steps(stage) as count:
            decode(batch, way)
        steps.append(len(count))
    stepping: Stepping = stage.transformer.stepping  # type: ignore[assignment, union-attr]
    before, stepping.engine = stepping.engine, engine
    rows = [decode(batch, way) for way in ways]  # which also loads the kernels
    same = [sum(torch.equal(one, other) for one, other in zip(of_way, rows[0], strict=True)) / len(rows[0]) for of_way in rows]
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(span.repeats):
        for measured, way in zip(seconds, ways, strict=True):
            started = time.perf_counter()
            decode(batch, way)
            measured.append(time.perf_counter() - started)
    stepping.engine = before
    found = []
    for number in range(1, len(ways)):
        ratios = [one / other for one, other in zip(seconds[0], seconds[number], strict=True)]
        found.append({
            "engine": engine, "k": number, "batch": batch, "accepted": round(steps[0] / steps[number], 3),  # of a batch, by its slowest row
            "speed_up": round(statistics.median(ratios), 3), "spread": [round(min(ratios), 3), round(max(ratios), 3)],
            "same_rows": same[number],
        })  # fmt: skip
    return found


class counted_steps:
    """A list that grows by one with every step that draws from ``stage``; what verifies drafts has more than one position."""

    def __init__(self, stage: nn.Module) -> None:
        self.head: nn.Module = stage.get_submodule("head")
        self.stepping: Stepping = stage.transformer.stepping  # type: ignore[assignment, union-attr]

    def __enter__(self) -> list[None]:
        steps: list[None] = []
        self.engine, self.stepping.engine = self.stepping.engine, "torch"  # the native one draws many tokens without calling the head
        self.handle = self.head.register_forward_hook(lambda _head, inputs, _output: steps.append(None) if inputs[0].ndim == 2 else None)
        return steps

    def __exit__(self, *_error: object) -> None:
        self.handle.remove()
        self.stepping.engine = self.engine


def dev_examples(released: Released, manifest_dir: Path, span: Span) -> list[Tokens]:
    """Tokens of the first dev cuts that are long enough."""
    with chdir(manifest_dir.parents[1]):  # manifests name their arrays from there
        manifests = read_manifests(manifest_dir)
        cuts = (cut for cut in manifests.cuts("dev") if cut.duration >= span.prompt + span.new)
        examples = [read_tokens(cut, manifests, released.model.config.num_quantizers) for cut in islice(cuts, span.rows)]
    if len(examples) < span.rows:
        raise UserError(f"expected {span.rows} dev cuts of {span.prompt + span.new:g} s or more in {manifest_dir}, found {len(examples)}")
    return examples


def continuing(stage: str, released: Released, examples: Sequence[Tokens], span: Span) -> Callable[[int, Sampling], list[Tensor]]:
    """``decode(batch, sampling)`` of all examples, ``batch`` at a time: units after the prompt's, or codes along the cut's own units."""
    model, timeline = released.model, released.timeline
    prompt, new = timeline.periods_for(span.prompt), timeline.periods_for(span.new)
    window = timeline.window_for(released.trained_seconds[stage])
    units = [torch.from_numpy(example.units) for example in examples]
    codes = [torch.from_numpy(example.codes) for example in examples]
    each, frames = timeline.units_per_period, timeline.frames_per_period

    def decode(batch: int, sampling: Sampling) -> list[Tensor]:
        rows: list[Tensor] = []
        for first in range(0, len(examples), batch):
            places = range(first, min(first + batch, len(examples)))
            if stage == "semantic":
                assert model.unit_stage is not None
                rows += model.unit_stage.generate(
                    [units[row][: prompt * each] for row in places], max_new=[new * each] * len(places), min_new=[new * each] * len(places),
                    sampling=sampling, seeds=list(places), window=window * each,
                )  # fmt: skip
            else:
                rows += model.stages()[stage].generate(  # type: ignore[operator]
                    [codes[row][: prompt * frames] for row in places], num_frames=[(prompt + new) * frames] * len(places),
                    units=[units[row][: (prompt + new) * each] for row in places], sampling=sampling, seeds=list(places),
                    window=window * frames,
                )  # fmt: skip
        return rows

    return decode


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| stage | heads | step | batch | drafts | tokens a step | speed-up | same rows |", "|---|---|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        lines.append(
            f"| {row['stage']} | {row['heads']} | {row['engine']} | {row['batch']} | {row['k']} | {row['accepted']:.2f} "
            f"| {row['speed_up']:.2f} ({row['spread'][0]:.2f} to {row['spread'][1]:.2f}) | {100 * row['same_rows']:.0f} % |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
