"""Folders of runs that do not fit, and what is needed to start one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bad_house import TRAIN, Case
from damage import Make


def _run_of(settings: str) -> Make:
    """A run of one step in `exp`."""

    def make(folder: Path) -> None:
        from bad_house import run

        end = run("trainer_audiolm", f"{TRAIN} --max-steps 1 {settings}".split(), folder)
        assert end.status == 0, end.err

    return make


def _checkpoint_with(change: Callable[[dict[str, Any]], object]) -> Make:
    def make(folder: Path) -> None:
        _run_of("")(folder)
        path = folder / "exp" / "checkpoint-1.pt"
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return make


def _truncate_checkpoint(folder: Path) -> None:
    _run_of("")(folder)
    path = folder / "exp" / "checkpoint-1.pt"
    path.write_bytes(path.read_bytes()[:-1000])


RUNS = [
    Case(
        given="an `--exp-dir` of a run of another size",
        program="trainer_audiolm",
        flags=f"{TRAIN} --decoder-dim 32",
        make=_run_of(""),
        says=("exp holds a run with different settings", "--decoder-dim was 16, now 32"),
        leaves=("exp/log",),
    ),
    Case(
        given="an `--exp-dir` of a run on other stages",
        program="trainer_audiolm",
        flags=f"{TRAIN} --train-stage coarse",
        make=_run_of(""),
        says=("--train-stage was all, now coarse",),
        leaves=("exp/log",),
    ),
    Case(
        given="an `--exp-dir` whose checkpoint is damaged",
        program="trainer_audiolm",
        flags=TRAIN,
        make=_truncate_checkpoint,
        says=("exp/checkpoint-1.pt is damaged",),
        leaves=("exp/log",),
    ),
    Case(
        given="an `--exp-dir` whose checkpoint is of another program",
        program="trainer_audiolm",
        flags=TRAIN,
        make=_checkpoint_with(lambda state: [state.pop(key) for key in ("optimizer", "sampler")]),
        says=("exp/checkpoint-1.pt", "without optimizer, sampler"),
        leaves=("exp/log",),
    ),
    Case(
        given="an `--exp-dir` whose optimizer's state is of another model",
        program="trainer_audiolm",
        flags=TRAIN,
        make=_checkpoint_with(lambda state: state.update(optimizer={"state": {}, "param_groups": []})),
        says=("exp/checkpoint-1.pt",),
        leaves=("exp/log",),
    ),
    Case(
        given="an `--exp-dir` whose counters are damaged",
        program="trainer_audiolm",
        flags=TRAIN,
        make=_checkpoint_with(lambda state: state["counters"].update(steps="many")),
        says=("exp/checkpoint-1.pt",),
        leaves=("exp/log",),
    ),
    Case(
        given="`--start-epoch` that was not trained",
        program="trainer_audiolm",
        flags=f"{TRAIN} --start-epoch 5",
        says=("exp/epoch-4.pt",),
        leaves=("exp",),
    ),
    Case(
        given="`--start-batch` that was not saved",
        program="trainer_audiolm",
        flags=f"{TRAIN} --start-batch 7",
        says=("exp/checkpoint-7.pt",),
        leaves=("exp",),
    ),
    Case(
        given="an `--exp-dir` that is a file",
        program="trainer_audiolm",
        flags=TRAIN,
        make=lambda folder: (folder / "exp").write_text("mine"),
        says=("exp",),
    ),
    Case(
        given="`demo_report.py` before the training ended",
        program="demo_report",
        flags="--exp-dir exp --manifest-dir good/data/tokenized",
        says=("exp/summary.json", "wait until training ends"),
    ),
    Case(
        given="`demo_report.py` and a summary that is no JSON",
        program="demo_report",
        flags="--exp-dir exp --manifest-dir good/data/tokenized",
        make=lambda folder: ((folder / "exp").mkdir(), (folder / "exp" / "summary.json").write_text("{")),
        says=("exp/summary.json",),
    ),
    Case(
        given="`demo_report.py` and a summary of something else",
        program="demo_report",
        flags="--exp-dir exp --manifest-dir good/data/tokenized",
        make=lambda folder: ((folder / "exp").mkdir(), (folder / "exp" / "summary.json").write_text("[]")),
        says=("exp/summary.json",),
    ),
]


CASES = RUNS
