"""Stages that were trained in runs of their own become one model, if they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_pipeline import checkpoint_state, tiny_released

from valle.errors import UserError
from valle.inference.export import ExportOptions, export
from valle.inference.joined_stages import parse_stages_from, with_stages
from valle.models.checkpoint import save_checkpoint
from valle.models.released import Released, load_released


def write_run(folder: Path, *, add: float = 0.0, seconds: float = 2.0, **fields: Any) -> Path:
    released = tiny_released(seconds=seconds, **fields)
    for parameter in released.model.parameters():
        parameter.data += add
    save_checkpoint(folder / "best-valid-loss.pt", checkpoint_state(released))
    return folder


def weights(released: Released, stage: str) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in released.model.stages()[stage].parameters()])


def test_an_exported_model_has_each_stage_of_the_run_that_is_named(tmp_path: Path) -> None:
    fine, semantic = write_run(tmp_path / "fine"), write_run(tmp_path / "semantic", add=1.0, seconds=3.0)
    coarse = write_run(tmp_path / "coarse", add=2.0) / "best-valid-loss.pt"
    words = [f"semantic={semantic}", f"coarse={coarse}"]
    export(ExportOptions(output_dir=tmp_path / "model", exp_dir=fine, stages_from=words, dtype="float32"))
    joined, alone = load_released(tmp_path / "model"), tiny_released()
    for stage, added in (("semantic", 1.0), ("coarse", 2.0), ("fine", 0.0)):
        assert torch.equal(weights(joined, stage), weights(alone, stage) + added)
    assert joined.trained_seconds["semantic"] == 3.0 and joined.trained_seconds["fine"] == 2.0


@pytest.mark.parametrize(
    ("fields", "stage", "says"),
    [({"units": False}, "coarse", "tokenizers"), ({"semantic_num_layers": 1}, "semantic", "shape"), ({}, "soundstorm", "expected one of"),
     ({"unit_sequence": "runs"}, "semantic", "shape")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, fields: dict[str, Any], stage: str, says: str) -> None:
    other = write_run(tmp_path / "other", **fields)
    with pytest.raises(UserError, match=says):
        with_stages(tiny_released(), {stage: other})


def test_words_name_a_stage_and_a_run(tmp_path: Path) -> None:
    assert parse_stages_from(["semantic=a=b"]) == {"semantic": Path("a=b")}
    for words in (["semantic"], ["=a"], ["coarse="], ["coarse=a", "coarse=b"]):
        with pytest.raises(UserError, match="--stages-from"):
            ExportOptions(output_dir=tmp_path, exp_dir=tmp_path, stages_from=words)
