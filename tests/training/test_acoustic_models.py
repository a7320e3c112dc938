"""Every acoustic model through the one loop: trained, summarised, released, and continued with; their nats compare."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_corpus import CODEBOOKS, CODES
from tiny_pipeline import recording
from tiny_training import tiny_manifests, tiny_options

from valle.config import parse_flags
from valle.evaluation.curves import read_curves
from valle.inference.export import ExportOptions, export
from valle.inference.pipeline import Pipeline
from valle.inference.trained_model import trained_model
from valle.models import AudioLM
from valle.models.audio_lm import count_parameters
from valle.training.audio_lm_task import AudioLMTask
from valle.training.estimate import EstimateOptions
from valle.training.finetune import sums_over
from valle.training.summary import codes_row
from valle.training.train import train_audio_lm

CHOICES: dict[str, dict[str, Any]] = {
    "ar-nar": {},
    "flat": {"acoustic_model": "flat"},
    "flat, units before all codes": {"acoustic_model": "flat", "coarse_conditioning": "prefix", "flat_coarse": 1},
    "delay": {"acoustic_model": "delay"},
    "delay, flattened": {"acoustic_model": "delay", "delay_pattern": "flatten"},
}
TERMS = {"ar-nar": {"coarse", "fine_1", "fine_2"}, "flat": {"coarse", "flatfine_2"}, "delay": {"delay_0", "delay_1", "delay_2"}}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_manifests(tmp_path_factory.mktemp("corpus") / "tokens")


@pytest.mark.parametrize("choice", CHOICES)
def test_models_that_know_nothing_take_the_same_nats_a_second(choice: str, manifests: Path, tmp_path: Path) -> None:
    """Whatever their stages count, crop and leave out: with equal logits, every code of every level takes ln K."""
    task = AudioLMTask(tiny_options(manifests, tmp_path, **CHOICES[choice]))
    for name, parameter in task.model.named_parameters():
        if "head" in name:
            parameter.data.zero_()
    valid, unigram = sums_over(task, of_train=False), task.unigram_nll()
    row = codes_row(task, train=valid, valid=valid, unigram=unigram)
    assert row is not None and row["valid_nats_per_second"] == pytest.approx(50 * CODEBOOKS * log(CODES), rel=1e-5)


def test_stages_that_were_not_trained_leave_the_sum_out(manifests: Path, tmp_path: Path) -> None:
    task = AudioLMTask(tiny_options(manifests, tmp_path, train_stage="coarse"))
    assert codes_row(task, train={}, valid={}, unigram={}) is None


@pytest.mark.parametrize("choice", ["flat", "delay"])
def test_a_model_is_trained_released_and_continued_with(choice: str, manifests: Path, tmp_path: Path) -> None:
    crops = {f"{stage}_seconds": 2.0 for stage in ("semantic", "coarse", "fine", "flatfine", "delay")}
    options = tiny_options(manifests, tmp_path / "exp", num_epochs=3, base_lr=0.1, **crops, **CHOICES[choice])
    train_audio_lm(options)
    summary = json.loads((tmp_path / "exp" / "summary.json").read_text())
    unigram = summary["codes"]["unigram_nats_per_second"]
    assert unigram == pytest.approx(50 * CODEBOOKS * log(CODES), rel=0.1), "50 frames of every level a second"
    assert 0 < summary["codes"]["valid_nats_per_second"] < unigram
    if choice in TERMS:
        assert set(read_curves(tmp_path / "exp" / "curves.jsonl")) >= TERMS[choice]
    trained = trained_model(checkpoint=None, exp_dir=tmp_path / "exp", epoch=3, avg=1, use_averaged_model=False)
    export(ExportOptions(exp_dir=tmp_path / "exp", epoch=3, output_dir=tmp_path / "released"))
    first, again = (
        pipeline.continue_audio(recording(1.5), 16000, seed=1, prompt_seconds=1.0, max_seconds=0.6, min_seconds=0.6)[0]
        for pipeline in (Pipeline(trained), Pipeline.from_pretrained(tmp_path / "released"))
    )
    assert first.generated_seconds == pytest.approx(0.6, abs=0.05) and np.isfinite(first.wav).all()
    assert first.codes.equal(again.codes)


@pytest.mark.parametrize("size", ["base", "small"])
@pytest.mark.parametrize("name", ["flat", "delay"])
def test_presets_are_as_large_as_those_of_ar_nar(name: str, size: str) -> None:
    """So that the acoustic models compare."""

    def acoustic_parameters(preset: str) -> int:
        options = parse_flags(EstimateOptions, usage="", argv=["--preset", preset, "--num-units", "200"])
        with torch.device("meta"):
            model = AudioLM.from_config(options.model_config)
        return sum(count_parameters(stage) for stage in model.acoustic_stages().values())

    assert acoustic_parameters(f"{name}-{size}") == pytest.approx(acoustic_parameters(size), rel=0.1)
