"""A trainer's ``exp_dir``: what is written there belongs to this run, or the run is refused before it begins."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from valle.models.checkpoint import newest_checkpoint
from valle.outputs import Outputs, claim_outputs

TRAINER = "trainer"
WRITTEN = ("curves.jsonl", "summary.json", "best-valid-loss.pt", "best-train-loss.pt")


@contextmanager
def run_folder(exp_dir: Path, *, folders: Sequence[str] = ()) -> Iterator[None]:
    """Claim a run's files, and the ``folders`` that it fills at its end.  With a checkpoint it is a run that goes on.

    Under torchrun the first process keeps the record; the others write nothing.
    """
    names = [*WRITTEN, *folders]
    if newest_checkpoint(exp_dir) is None:
        outputs = claim_outputs(exp_dir, names, program=TRAINER, also=["demo_report"])
    else:
        outputs = Outputs(exp_dir, tuple(names), TRAINER)
    if os.environ.get("RANK", "0") not in ("", "0"):
        yield
        return
    with outputs.being_written():
        yield
