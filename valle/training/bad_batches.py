"""Batches whose loss or gradients are not finite: kept, named, passed over, and remembered by a run that goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from valle.models.checkpoint import plain, save_checkpoint
from valle.training.distributed import World
from valle.training.options import LoopOptions
from valle.training.resume import FREE

LIST_FILE = "bad-batches.jsonl"
SHOWN = 5  # cuts that a line of the log names


class NotFiniteError(Exception):
    """Raised where ``what`` of a step is infinite or not a number, the same on every rank."""

    def __init__(self, what: list[str]) -> None:
        super().__init__(what)
        self.what = what


class BadBatches:
    """The list of a run's bad steps, ``exp_dir/bad-batches.jsonl``, at which the same run does not stop again."""

    def __init__(self, options: LoopOptions, world: World) -> None:
        self.options, self.world = options, world
        self.path = options.exp_dir / LIST_FILE
        settings = {name: value for name, value in plain(asdict(options)).items() if name not in FREE}
        self.run = blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
        self.known: frozenset[int] = world.broadcast(self._read() if world.is_first else None)

    def _read(self) -> frozenset[int]:
        if not self.path.is_file():
            return frozenset()
        steps = set()
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                if row["run"] == self.run:
                    steps.add(int(row["step"]))
            except (ValueError, KeyError, TypeError):
                continue  # the half line of a killed run
        return frozenset(steps)

    def keep(self, batches: Sequence[Any], cuts: Sequence[str], *, what: Sequence[str], step: int, epoch: int, number: int) -> Path:
        """Save a step's batches, say so, and put the step on the list."""
        rank = f"-rank{self.world.rank}" if self.world.rank else ""
        path = self.options.exp_dir / f"batch-{step}{rank}.pt"
        state = {"batches": list(batches), "cuts": list(cuts), "step": step, "epoch": epoch, "batch": number, "seed": self.options.seed}
        save_checkpoint(path, state)
        more = f" and {len(cuts) - SHOWN} more" if len(cuts) > SHOWN else ""
        named = f"; its cuts are {', '.join(cuts[:SHOWN])}{more}" if cuts else ""
        logging.warning("Step %d: %s not finite; batch %d of epoch %d is kept in %s%s", step, ", ".join(what), number, epoch, path, named)
        if self.world.is_first:
            with self.path.open("a", encoding="utf-8") as lines:
                row = {"run": self.run, "step": step, "epoch": epoch, "batch": number, "what": list(what), "cuts": list(cuts)}
                lines.write(json.dumps(row) + "\n")
        return path
