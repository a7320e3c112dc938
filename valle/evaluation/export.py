"""From a training run to a released folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from valle.errors import UserError
from valle.evaluation.infer import released_from_checkpoint
from valle.models.audio_lm import count_parameters
from valle.models.released import save_released
from valle.training.checkpoint import choose_checkpoint, load_checkpoint


@dataclass(frozen=True)
class ExportOptions:
    """Flags of ``bin/export.py``."""

    output_dir: Path = field(metadata={"help": "the folder to write; an existing released model there is replaced"})
    checkpoint: Path | None = field(default=None, metadata={"help": "a trainer's checkpoint"})
    exp_dir: Path | None = field(default=None, metadata={"help": "a trainer's folder; with --epoch 0 the weights that were best on dev"})
    epoch: int = field(default=0, metadata={"help": "epoch-N.pt of --exp-dir"})
    avg: int = field(default=1, metadata={"help": "average the last so many epochs"})
    use_averaged_model: bool = field(default=False, metadata={"help": "average over all steps of those epochs"})
    dtype: Literal["float16", "float32"] = field(default="float16", metadata={"help": "of the weights in the file"})


def export(options: ExportOptions) -> int:
    """Write the folder -> how many parameters it holds."""
    if (options.checkpoint is None) == (options.exp_dir is None):
        raise UserError("expected either --checkpoint or --exp-dir, so that one run is exported")
    if options.output_dir.exists() and not (options.output_dir / "config.yaml").is_file() and any(options.output_dir.iterdir()):
        raise UserError(f"{options.output_dir} exists and holds no released model; name another folder, so that nothing is lost")
    if options.checkpoint is not None:
        state = load_checkpoint(options.checkpoint)
    else:
        assert options.exp_dir is not None
        state = choose_checkpoint(options.exp_dir, epoch=options.epoch, avg=options.avg, use_averaged_model=options.use_averaged_model)
    released = released_from_checkpoint(state)
    save_released(released, options.output_dir, dtype=getattr(torch, options.dtype))
    return count_parameters(released.model)
