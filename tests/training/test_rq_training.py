"""``--acoustic-model rq`` from tokens to sound: trained by the one loop, released, and heard."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_exact_sums import gradients_of
from tiny_pipeline import recording
from tiny_training import tiny_loop, tiny_options

from valle.config import parse_flags
from valle.evaluation.curves import read_curves
from valle.inference.pipeline import Pipeline
from valle.inference.trained_model import trained_model
from valle.models import AudioLM
from valle.models.audio_lm import count_parameters
from valle.models.config import AudioLMConfig
from valle.models.released import load_released, save_released
from valle.settings import fields_from_flags
from valle.training.options import AudioLMOptions
from valle.training.train import train_audio_lm

SIZES: dict[str, Any] = {"acoustic_model": "rq", "depth_num_layers": 1, "depth_dim": 8, "depth_nhead": 2, "rq_seconds": 1.0}


@pytest.mark.parametrize(
    "choices",
    [
        {"depth_share": 0.25, "acoustic_delay": 1},
        {"rq_first_level": "depth", "level_weights": [100.0, 1.0], "depth_weights": "shared"},
    ],
)
def test_rq_is_trained_reported_released_and_heard(manifests: Path, tmp_path: Path, choices: dict[str, Any]) -> None:
    options = tiny_options(manifests, tmp_path / "exp", num_epochs=2, base_lr=0.1, **SIZES, **choices)
    train_audio_lm(options)
    summary = json.loads((tmp_path / "exp" / "summary.json").read_text())["rq"]
    assert summary["levels"] == [0, 1, 2] and all(0 < nats < 2 * log(16) for nats in summary["nll_per_codebook"])
    assert {"rq_0", "rq_1", "rq_2"} <= set(read_curves(tmp_path / "exp" / "curves.jsonl"))
    trained = trained_model(checkpoint=None, exp_dir=tmp_path / "exp", epoch=2, avg=1, use_averaged_model=False)
    assert list(trained.model.stages()) == ["semantic", "rq"] == list(trained.trained_seconds)
    save_released(trained, tmp_path / "released", dtype=torch.float32)
    released = load_released(tmp_path / "released")
    assert released.model.config == trained.model.config and released.model.config.level_weights == choices.get("level_weights", [])
    said = [
        Pipeline(model).continue_audio([recording(1.5)] * 2, 16000, seed=[1, 2], prompt_seconds=1.0, max_seconds=1.4, min_seconds=1.4)
        for model in (trained, released)
    ]
    for first, again in zip(*said, strict=True):
        assert first.generated_seconds == pytest.approx(1.4, abs=0.05) and np.isfinite(first.wav).all()
        assert torch.equal(first.codes, again.codes)
    assert not torch.equal(said[0][0].codes, said[0][1].codes)


@pytest.mark.parametrize("size", ["base", "small", "tiny"])
def test_a_preset_has_about_the_parameters_of_ar_nars(size: str) -> None:
    """So that the two are compared at one size."""
    totals = []
    for preset in (size, f"rq-{size}"):
        fields = fields_from_flags(AudioLMConfig, parse_flags(AudioLMOptions, ["--preset", preset]))
        with torch.device("meta"):
            model = AudioLM(**{**fields, "num_units": 200, "codebook_size": 1024 if size == "base" else 256})
        assert model.config.acoustic_model == ("rq" if preset.startswith("rq") else "ar-nar")
        totals.append(sum(count_parameters(stage) for stage in model.acoustic_stages().values()))
    assert totals[1] / totals[0] == pytest.approx(1.0, abs=0.1)


def test_micro_batches_have_the_gradients_of_one_batch(manifests: Path, tmp_path: Path) -> None:
    """What an example's share of frames is scaled by is its own."""
    choices = {"depth_share": 0.3, "acoustic_delay": 1, "level_weights": [5.0, 1.0], "dropout": 0.0, "train_stage": "rq"}
    whole, parts = (
        gradients_of(tiny_loop(tiny_options(manifests, tmp_path / str(len(groups)), **SIZES, **choices)), groups)[0]
        for groups in ([[0, 1, 2, 3, 4]], [[0, 1, 2], [3, 4]])
    )
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=0, atol=1e-10)
        assert gradient.any()
