"""What a run says: icefall's log lines, tensorboard, and ``curves.jsonl``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from valle.files import write_text
from valle.models.draft_heads import is_draft_term
from valle.models.loss import LossTerm

Sums = dict[str, tuple[float, float, float]]  # part: nats, targets, hits


def setup_logging(exp_dir: Path, rank: int) -> None:
    """Log to ``exp_dir/log/log-train-<date>`` and, on the first process, to the terminal."""
    folder = exp_dir / "log"
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f"-{rank}" if rank else ""
    name = folder / f"log-train-{datetime.now():%Y-%m-%d-%H-%M-%S}{suffix}"
    handlers: list[logging.Handler] = [logging.FileHandler(name, encoding="utf-8", errors="backslashreplace")]
    if rank == 0:
        handlers.append(logging.StreamHandler())
    logging.disable(logging.NOTSET)  # whatever a library that was imported has silenced
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s [%(module)s] %(message)s", handlers=handlers, force=True)


def sums_of(*batches: Mapping[str, LossTerm]) -> Sums:
    """Terms of one or several batches, added, as plain numbers: by one transfer, as each makes a process wait for its device."""
    named = [(name, term) for terms in batches for name, term in terms.items()]
    if not named:
        return {}
    dtype = torch.float32 if named[0][1].sum.device.type == "mps" else torch.float64  # which MPS does not have
    table = torch.stack([torch.stack([value.detach().to(dtype) for value in term]) for _, term in named])
    sums: Sums = {}
    for (name, _), row in zip(named, table.tolist(), strict=True):
        add_sums(sums, {name: (row[0], row[1], row[2])})
    return sums


def add_sums(total: Sums, more: Sums) -> None:
    """Add ``more`` to ``total`` in place."""
    for name, values in more.items():
        before = total.get(name, (0.0, 0.0, 0.0))
        total[name] = (before[0] + values[0], before[1] + values[1], before[2] + values[2])


def means(sums: Sums) -> dict[str, float]:
    """Nats a target of every part that has targets."""
    return {name: nats / count for name, (nats, count, _) in sums.items() if count}


def own(sums: Sums) -> Sums:
    """Without the terms of draft heads, which are no part of a stage's own loss."""
    return {name: values for name, values in sums.items() if not is_draft_term(name)}


def loss_text(sums: Sums) -> str:
    """``loss[semantic=2.1, coarse=3.0, over 1200 frames.]`` without the word in front."""
    frames = sum(count for _, count, _ in sums.values())
    return "[" + ", ".join([*(f"{name}={value:.4g}" for name, value in means(sums).items()), f"over {frames:.0f} frames."]) + "]"


class Recorder:
    """Tensorboard and ``curves.jsonl`` of one run; does nothing on other ranks than the first."""

    def __init__(self, exp_dir: Path, *, enabled: bool, tensorboard: bool, step: int) -> None:
        self.path = exp_dir / "curves.jsonl" if enabled else None
        if enabled:
            exp_dir.mkdir(parents=True, exist_ok=True)
        self.writer: Any = None
        if enabled and tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(exp_dir / "tensorboard"), purge_step=step + 1)
        self._forget_after(step)

    def _forget_after(self, step: int) -> None:
        """Drop what a killed run wrote past the checkpoint that it is resumed from."""
        if self.path is None or not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (json.JSONDecodeError, KeyError):
                continue  # the half line of a killed run
        write_text(self.path, "".join(kept))

    def curve(self, step: int, seconds: float, kind: str, sums: Sums) -> None:
        """One line a part: ``{"step", "seconds", "part", "kind": "train" or "valid", "nll", "accuracy"}``."""
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            for part, (nats, count, hits) in sums.items():
                if count:
                    row = {
                        "step": step,
                        "seconds": round(seconds, 2),
                        "part": part,
                        "kind": kind,
                        "nll": nats / count,
                        "accuracy": hits / count,
                    }
                    stream.write(json.dumps(row) + "\n")

    def scalars(self, prefix: str, sums: Sums, step: int) -> None:
        """``train/<prefix>_<part>_loss`` and ``..._accuracy``."""
        if self.writer is None:
            return
        for part, (nats, count, hits) in sums.items():
            if count:
                self.writer.add_scalar(f"train/{prefix}_{part}_loss", nats / count, step)
                self.writer.add_scalar(f"train/{prefix}_{part}_accuracy", hits / count, step)
        if sums:
            self.writer.add_scalar(f"train/{prefix}_loss", sum(means(own(sums)).values()), step)

    def scalar(self, tag: str, value: float, step: int) -> None:
        if self.writer is not None:
            self.writer.add_scalar(tag, value, step)

    def audio(self, tag: str, wav: Tensor, sample_rate: int, step: int) -> None:
        """The sound and its spectrogram."""
        if self.writer is None:
            return
        from matplotlib.figure import Figure

        self.writer.add_audio(tag, wav[None].clamp(-1, 1), step, sample_rate=sample_rate)
        figure = Figure(figsize=(8, 2.5), layout="constrained")
        figure.subplots().specgram(wav.numpy() + 1e-9, NFFT=512, Fs=sample_rate, noverlap=384)
        self.writer.add_figure(f"{tag}/spectrogram", figure, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
