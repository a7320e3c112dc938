"""The model that an evaluation is about, by ``--model`` or ``--exp-dir``."""

from __future__ import annotations

from pathlib import Path

from valle.errors import UserError
from valle.inference.pipeline import BUNDLED_MODEL, Pipeline
from valle.inference.trained_model import trained_model
from valle.models.checkpoint import newest_checkpoint
from valle.models.hub import find_model


def refuse_two_models(model: Path | None, exp_dir: Path | None) -> None:
    """Raises ``UserError`` where both flags name a model."""
    if model is not None and exp_dir is not None:
        raise UserError("expected one of --model and --exp-dir, found both; give only one of them")


def judged_model(model: Path | None, exp_dir: Path | None) -> tuple[Pipeline, Path]:
    """The pipeline, and the released folder or checkpoint that it is made of; without a name the bundled model.

    ``exp_dir`` is a trainer's folder: the weights with best dev loss, or the newest ones where there are no such.
    """
    if exp_dir is None:
        folder = BUNDLED_MODEL if model is None else find_model(model)
        return Pipeline.from_pretrained(folder), folder
    best = exp_dir / "best-valid-loss.pt"
    checkpoint = best if best.is_file() else newest_checkpoint(exp_dir) or best
    return Pipeline(trained_model(checkpoint=checkpoint, exp_dir=None, epoch=0, avg=1, use_averaged_model=False)), checkpoint
