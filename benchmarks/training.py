"""The trainer's step beside the bare work that it cannot avoid, and how much of its batches is padding.

Both train the demo's model, from the same weights, on the same batches in the same order and number format, by turns;
bare is forward, backward, optimizer and nothing else: no clipping, no sums, no averages, no seeds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import ROOT, figure
from valle.config import parse_flags
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World
from valle.training.loop import Loop
from valle.training.optim import build_optimizer
from valle.training.options import AudioLMOptions
from valle.training.precision import Precision
from valle.training.task import Batch

DEMO = ROOT / "egs" / "espeak" / "conf" / "demo.yaml"
TINY = ("--decoder-dim", "32", "--nhead", "2", "--num-decoder-layers", "1", "--dim-feedforward", "64", "--dtype", "float32")


def demo_options(folder: Path, exp_dir: Path, *, fast: bool) -> AudioLMOptions:
    """The demo's settings on the corpus in ``folder``."""
    flags = ["--config", DEMO, "--manifest-dir", folder / "data/tokenized", "--exp-dir", exp_dir, "--max-minutes", 60]
    flags += ["--num-workers", 0, "--tensorboard", "false", *(TINY if fast else ())]
    return parse_flags(AudioLMOptions, [str(flag) for flag in flags])


def bench_training(folder: Path, exp_dir: Path, *, fast: bool = False) -> dict[str, Any]:
    """Step and padding, on the tokenized corpus in ``folder``."""
    loop = Loop(AudioLMTask(demo_options(folder, exp_dir, fast=fast)), demo_options(folder, exp_dir, fast=fast), World())
    return {"step": _bench_step(loop, rounds=3 if fast else 30), "padding": _padding(loop.task)}


def _bench_step(loop: Loop, *, rounds: int) -> dict[str, Any]:
    batches = list(islice(loop.task.batches(epoch=1, skip=0, world=World()), rounds))
    bare = _bare_step(loop)
    loop.progress.step = 1  # a step whose number is a multiple of the averaging period would pay for all the others

    def ours(batch: Batch) -> int:
        loop.progress.step += 1
        return int(sum(count for _, count, _ in loop.train_step([batch]).values()))

    for step in (ours, bare):  # memory and kernels warm up
        step(batches[0])
    rows = []
    for number in range(rounds):
        batch = batches[number % len(batches)]
        first, second = (ours, bare) if number % 2 else (bare, ours)
        seconds, targets = {}, 0
        for step in (first, second):
            started = time.perf_counter()
            targets = step(batch)
            seconds[step] = time.perf_counter() - started
        rows.append((seconds[ours], seconds[bare], targets))
    return {
        "dtype": loop.precision.name,
        "threads": torch.get_num_threads(),
        "ours_seconds": figure([mine for mine, _, _ in rows]),
        "bare_seconds": figure([theirs for _, theirs, _ in rows]),
        "targets_per_s": figure([targets / mine for mine, _, targets in rows], digits=0),
        "bare_over_ours": figure([theirs / mine for mine, theirs, _ in rows], at_least=0.9),
    }


def _bare_step(loop: Loop) -> Callable[[Batch], int]:
    model = copy.deepcopy(loop.task.model).train()
    optimizer = build_optimizer(model, loop.options)
    precision = Precision(loop.precision.name, loop.device)

    def step(batch: Batch) -> int:
        with precision.autocast():
            parts = model(batch)
        torch.stack([part.sum / part.count for part in parts.values()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return int(sum(int(part.count) for part in parts.values()))

    return step


def _padding(task: Any) -> dict[str, Any]:
    """Over all batches of three epochs."""
    shares, sizes = [], []
    for epoch in (1, 2, 3):
        real = padded = 0.0
        for batch in task.batches(epoch=epoch, skip=0, world=World()):
            about = task.describe(batch)
            real += about["frames"]
            padded += about["frames"] / (1 - about["padding"])
            sizes.append(about["batch_size"])
        shares.append(100 * (1 - real / padded))
    return {
        "percent": figure(shares, at_most=8.0, digits=2, means="of all stages' tokens, an epoch each"),
        "examples_a_batch": figure(sizes, digits=0),
    }
