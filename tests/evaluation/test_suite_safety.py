"""The suite of watermark and detector: marks come from the pipeline, are found after attacks, and their absence is told, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spoken_corpus import speak, write_corpus
from tiny_pipeline import lean_to_end, tiny_released

from valle.errors import UserError
from valle.evaluation import mark_windows
from valle.evaluation.attacks import attacks
from valle.evaluation.evaluate import EvaluateOptions, evaluate, left_out
from valle.evaluation.mark_windows import window_scores, window_threshold
from valle.evaluation.suite_detector import _balanced
from valle.evaluation.suite_safety import _prompts, _unmarked
from valle.evaluation.suites import SuiteSettings
from valle.inference.pipeline import Pipeline
from valle.models.released import save_released


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    house = tmp_path_factory.mktemp("safety")
    released = lean_to_end(tiny_released(), -1e9)
    save_released(released, house / "model", dtype=torch.float32)
    write_corpus(house / "corpus", released, num_train=2, num_test=1, seconds=5.0)
    return house


def options(house: Path, output: Path, **more: Any) -> EvaluateOptions:
    return EvaluateOptions(**{
        "corpus": house / "corpus", "model": house / "model", "output_dir": output, "suite": "safety", "prompt_seconds": 1.0,
        "max_seconds": 3.0, "safety_items": 2, **more,
    })  # fmt: skip


@pytest.fixture(scope="module")
def report(house: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluate(options(house, tmp_path_factory.mktemp("report")))


def test_marks_of_the_pipeline_are_found_and_unmarked_sound_is_not(report: dict[str, Any]) -> None:
    assert {f"watermark_tpr_{name}" for name in (*attacks({}), "codec_own")} <= report.keys()
    for name in ("none", "mp3_64k", "opus_32k", "gain_minus_20db"):
        row = report[f"watermark_tpr_{name}"]
        assert row["n"] == 6 and row["value"] > 0.7 > 0.2 > row["controls"]["without the mark"], name
        assert 0 < row["low"] <= row["value"] <= row["high"] <= 1 and "Hoeffding" in row["definition"]
    for name in ("watermark_files", "watermark_files_streamed"):
        assert report[name]["value"] == 1 and report[name]["controls"] == {"without the mark": 0, "real speech": 0}
    assert report["watermark_false_alarms"]["value"] <= 0.02 and report["watermark_false_alarms"]["n"] >= 50


def test_the_detector_is_judged_on_unmarked_sound_beside_real_speech_in_every_form(report: dict[str, Any]) -> None:
    accuracy, alarms = report["detector_accuracy"], report["detector_false_alarms"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"] and accuracy["controls"]["chance"] == 0.5
    assert {"real speech", "through the codec", "real speech, mp3", "real speech, Opus", "real speech, 8 kHz"} < alarms["controls"].keys()
    kinds = {name: value for name, value in alarms["controls"].items() if name != "allowed"}
    assert alarms["value"] == max(kinds.values()) and report["detector_found"]["controls"] == kinds


def test_accuracy_weighs_generated_and_real_crops_alike() -> None:
    generated, real = [np.array([1.0, -1.0]), np.array([1.0])], [np.array([-1.0]), np.array([1.0, -1.0, -1.0, -1.0])]
    estimate = _balanced(generated, real)
    assert estimate.mean == pytest.approx(0.5 * 2 / 3 + 0.5 * 4 / 5) and estimate.count == 2


def test_the_threshold_is_a_quantile_of_unmarked_windows_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [speak(voice, seed, 3.0) for voice in ("low", "high") for seed in (1, 2)]
    scores = [score for clip in clips for score in window_scores(clip)]
    bound = window_threshold(iter(clips), 20)
    assert bound.z > max(scores) and bound.z == pytest.approx(4.9906, abs=1e-3) and "Hoeffding" in bound.source
    monkeypatch.setattr(mark_windows, "LEAST_WINDOWS", 20)
    drawn = window_threshold(iter(clips), len(scores))
    assert drawn.z == pytest.approx(np.quantile(scores, 0.999)) and "4 unmarked recordings" in drawn.source


def test_unmarked_windows_are_of_speakers_who_said_no_prompt(house: Path) -> None:
    pipeline = Pipeline.from_pretrained(house / "model")
    settings = SuiteSettings(pipeline=pipeline, model_source=house / "model", corpus=house / "corpus", prompt_seconds=1.0, safety_items=2)
    prompts = _prompts(settings)
    assert len(prompts) == 2 and len(list(_unmarked(settings, prompts))) == 2  # of the third voice
    assert len(list(_unmarked(settings, []))) == 6


def test_a_corpus_of_short_recordings_is_left_out_with_a_reason(house: Path, tmp_path: Path) -> None:
    asked = options(house, tmp_path, prompt_seconds=4.0)
    assert evaluate(asked) == {} and any("lower --prompt-seconds" in reason for reason in left_out(asked))
    with pytest.raises(UserError, match="--safety-items must be 2 or more"):
        options(house, tmp_path, safety_items=1)
