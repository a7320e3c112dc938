"""Where a model comes from: a trainer's checkpoint, a trainer's folder, or a released folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from valle.errors import UserError
from valle.models.checkpoint import choose_checkpoint, load_checkpoint, model_from_checkpoint
from valle.models.released import Released


def check_choice(*, exp_dir: Path | None, epoch: int, avg: int, use_averaged_model: bool) -> None:
    """Refuse flags that choose among checkpoints of no folder, or none of them."""
    if exp_dir is None and (epoch or avg != 1 or use_averaged_model):
        raise UserError("--epoch, --avg and --use-averaged-model choose among the checkpoints of --exp-dir, which is not given; add it")
    if epoch < 0 or avg < 1:
        raise UserError(f"expected --epoch of 0 (the best on dev) or more and --avg of 1 or more, found {epoch} and {avg}")
    if avg > epoch > 0:
        raise UserError(f"--avg {avg} asks for more epochs than the {epoch} up to --epoch {epoch}; lower it")
    if epoch == 0 and (avg != 1 or use_averaged_model):
        raise UserError("--avg and --use-averaged-model average up to an epoch, which is not given; add --epoch N")


def trained_model(*, checkpoint: Path | None, exp_dir: Path | None, epoch: int, avg: int, use_averaged_model: bool) -> Released:
    """The model of a checkpoint, or of a folder's chosen ones."""
    return released_from_checkpoint(
        trained_state(checkpoint=checkpoint, exp_dir=exp_dir, epoch=epoch, avg=avg, use_averaged_model=use_averaged_model)
    )


def trained_state(*, checkpoint: Path | None, exp_dir: Path | None, epoch: int, avg: int, use_averaged_model: bool) -> dict[str, Any]:
    """The same as the trainer wrote it, of whatever model."""
    if checkpoint is not None:
        return load_checkpoint(checkpoint)
    assert exp_dir is not None
    return choose_checkpoint(exp_dir, epoch=epoch, avg=avg, use_averaged_model=use_averaged_model)


def released_from_checkpoint(state: dict[str, Any]) -> Released:
    """A trainer's checkpoint as what the pipeline takes."""
    model, timeline, acoustic, semantic = model_from_checkpoint(state)
    stages = list(model.stages())
    missing = [name for name in (f"{stage}_seconds" for stage in stages) if name not in state]
    if missing:
        raise UserError(f"expected an AudioLM's checkpoint, found one without {', '.join(missing)}; use a file of trainer_audiolm.py")
    try:
        seen = state.get("trained_seconds", {})  # older checkpoints say only what was asked for
        trained = {stage: float(seen.get(stage, state[f"{stage}_seconds"])) for stage in stages}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"expected numbers for the checkpoint's {', '.join(f'{stage}_seconds' for stage in stages)} ({error})") from error
    return Released(model=model, timeline=timeline, acoustic=acoustic, semantic=semantic, trained_seconds=trained)
