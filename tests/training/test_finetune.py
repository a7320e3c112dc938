"""Going on from another model: its shape as flags, and its score before anything is learned, as the trainer itself scores."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from tiny_training import Run, tiny_options

from valle.errors import UserError
from valle.inference.trained_model import released_from_checkpoint
from valle.models.checkpoint import load_checkpoint
from valle.models.released import save_released
from valle.training.audio_lm_task import AudioLMTask
from valle.training.finetune import EvaluateOptions, SettingsOf, evaluate, trainer_settings, write_trainer_settings
from valle.training.options import AudioLMOptions


@pytest.fixture(scope="module")
def released(unbroken: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    save_released(released_from_checkpoint(load_checkpoint(unbroken.exp_dir / "epoch-2.pt")), folder, dtype=torch.float32)
    return folder


def score(source: Path | None, manifests: Path, output: Path | None = None) -> dict[str, object]:
    return evaluate(EvaluateOptions(manifest_dir=manifests, init_from=source, filter_min_duration=0.4, num_workers=0, output=output))


def test_settings_are_the_flags_that_the_model_was_trained_with(unbroken: Run, released: Path, manifests: Path, tmp_path: Path) -> None:
    trained = tiny_options(manifests, tmp_path)
    for source in (unbroken.exp_dir / "epoch-2.pt", released):
        settings = trainer_settings(source)
        assert settings.keys() <= {entry.name for entry in fields(AudioLMOptions)}
        for name in (
            "decoder_dim",
            "nhead",
            "num_decoder_layers",
            "num_quantizers",
            "coarse_conditioning",
            "coarse_seconds",
            "fine_seconds",
        ):
            assert settings[name] == getattr(trained, name), name
    assert trainer_settings(released) == trainer_settings(unbroken.exp_dir / "epoch-2.pt")


def test_a_trainer_of_these_settings_takes_every_weight_of_the_model(unbroken: Run, manifests: Path, tmp_path: Path) -> None:
    source = unbroken.exp_dir / "epoch-2.pt"
    written = write_trainer_settings(SettingsOf(init_from=source, output=tmp_path / "tune.yaml"))
    read = yaml.safe_load((tmp_path / "tune.yaml").read_text())
    assert read == written and sorted(path.name for path in tmp_path.iterdir()) == [".valle-outputs.json", "tune.yaml"]
    model = AudioLMTask(tiny_options(manifests, tmp_path / "exp", **{**read, "init_from": source})).model
    weights = load_checkpoint(source)["model"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_the_score_before_tuning_is_the_trainers_own_at_the_end(unbroken: Run, released: Path, manifests: Path, tmp_path: Path) -> None:
    summary = json.loads((unbroken.exp_dir / "summary.json").read_text())
    for source in (unbroken.exp_dir / "epoch-2.pt", released):
        found = score(source, manifests, tmp_path / "score.json")
        assert json.loads((tmp_path / "score.json").read_text()) == found
        for part in ("semantic", "coarse"):
            assert found[part] == pytest.approx(summary[part], rel=1e-4), part  # type: ignore[index]
        assert found["fine"] == {name: pytest.approx(values, rel=1e-4) for name, values in summary["fine"].items()}


def test_what_is_no_audio_lm_is_refused(manifests: Path, tmp_path: Path) -> None:
    torch.save({"model": {}, "encoder_dim": 16}, tmp_path / "hubert.pt")
    with pytest.raises(UserError, match=r"expected an AudioLM's settings in .*hubert\.pt, found none of d_model, "):
        trainer_settings(tmp_path / "hubert.pt")
    with pytest.raises(UserError, match="expected the model to score after --init-from, found none"):
        score(None, manifests)
