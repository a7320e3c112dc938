"""Codec training that takes a moment: a manifest of a few seconds and networks of a few thousand parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lhotse import CutSet, MonoCut, Recording
from tiny_audio import write_sound

from valle.training.codec_options import CodecOptions
from valle.training.codec_task import CodecTask
from valle.training.distributed import World
from valle.training.logs import setup_logging
from valle.training.loop import Loop

TINY: dict[str, Any] = {
    "batch_size": 2, "segment_seconds": 0.2, "batches_per_epoch": 4, "num_workers": 0, "dim": 8, "num_blocks": 1, "channels": 2,
    "num_quantizers": 2, "codebook_size": 8, "num_epochs": 2, "save_every_n": 3, "valid_interval": 100, "log_interval": 1,
    "average_period": 2, "warmup_steps": 4, "dtype": "float32", "device": "cpu", "tensorboard": False, "optimizer_name": "AdamW",
    "base_lr": 0.001, "adversarial_channels": 2, "adversarial_windows": [128, 64], "adversarial_seconds": 0.1,
}  # fmt: skip


def audio_manifest(folder: Path, *, name: str = "cuts", count: int = 3, seed: int = 0) -> Path:
    """Cuts of half a second or more."""
    cuts = []
    for number in range(count):
        path = write_sound(folder / f"{name}-{number}.wav", 0.5 + 0.2 * number, seed=seed + number)
        recording = Recording.from_file(path)
        cuts.append(MonoCut(id=path.stem, start=0, duration=recording.duration, channel=0, recording=recording))
    manifest = folder / f"{name}.jsonl.gz"
    CutSet.from_cuts(cuts).to_file(manifest)
    return manifest


def codec_options(manifest: Path, exp_dir: Path, **changes: Any) -> CodecOptions:
    """Two epochs of four steps."""
    return CodecOptions(**{**TINY, "manifests": [manifest], "exp_dir": exp_dir, **changes})


def codec_loop(options: CodecOptions) -> Loop:
    return Loop(CodecTask(options), options, World())


class RevivingTask(CodecTask):
    """Moves unused codes at every step, and has every example use its own number of levels."""

    def __init__(self, options: CodecOptions) -> None:
        super().__init__(options)
        self.codec.quantizer.dropout = 1.0

    def after_step(self, step: int, share_done: float) -> None:
        super().after_step(step, share_done)
        self.model.revive = True


def run_and_leave_state(world: World, options: CodecOptions) -> None:
    """A run to the end, after which each process leaves what it holds in ``exp_dir/state-<rank>.pt``."""
    setup_logging(options.exp_dir, world.rank)
    task = RevivingTask(options)
    Loop(task, options, world).run()
    torch.save(task.model.state_dict(), options.exp_dir / f"state-{world.rank}.pt")
