"""Adding a stage, or an acoustic model, is one file and a line of the registry: here is each, trained and decoded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_pipeline import recording
from tiny_training import tiny_manifests, tiny_options
from toy_acoustic_model import Echo
from toy_stage import BigramLM

from valle.evaluation.curves import read_curves
from valle.inference.pipeline import Pipeline
from valle.inference.trained_model import trained_model
from valle.models.registry import ACOUSTIC_MODELS, SEMANTIC_STAGES, all_stages
from valle.training.train import train_audio_lm


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEMANTIC_STAGES, "bigram", BigramLM)
    monkeypatch.setitem(ACOUSTIC_MODELS, "echo", Echo)


@pytest.mark.parametrize(
    ("choices", "stages"),
    [
        ({"unit_sequence": "bigram"}, ["bigram", "coarse", "fine"]),
        ({"acoustic_model": "echo"}, ["semantic", "echo"]),
        ({"unit_sequence": "bigram", "acoustic_model": "echo"}, ["bigram", "echo"]),
    ],
)
def test_a_toy_is_trained_reported_and_decoded(tmp_path: Path, toys: None, choices: dict[str, str], stages: list[str]) -> None:
    options = tiny_options(tiny_manifests(tmp_path / "tokens"), tmp_path / "exp", num_epochs=6, visualize=True, base_lr=0.1, **choices)
    train_audio_lm(options)
    summary = json.loads((tmp_path / "exp" / "summary.json").read_text())
    for stage in set(stages) & {"bigram", "echo"}:
        assert summary[stage]["valid_nll"] < summary[stage]["unigram_nll"], f"the pattern of {stage} was not learned"
    assert {name.partition("_")[0] for name in read_curves(tmp_path / "exp" / "curves.jsonl")} == set(stages)
    released = trained_model(checkpoint=None, exp_dir=tmp_path / "exp", epoch=6, avg=1, use_averaged_model=False)
    assert list(released.model.stages()) == stages == list(released.trained_seconds)
    [first, again, other] = Pipeline(released).continue_audio(
        [recording(1.5)] * 3, 16000, seed=[1, 1, 2], prompt_seconds=1.0, max_seconds=0.6, min_seconds=0.6
    )
    assert first.generated_seconds == pytest.approx(0.6, abs=0.05) and np.isfinite(first.wav).all()
    assert first.codes.equal(again.codes) and not first.codes.equal(other.codes)


def test_flags_and_curves_know_a_registered_stage(toys: None) -> None:
    names = list(all_stages())
    assert names[:4] == ["semantic", "bigram", "coarse", "fine"] and names[-1] == "echo"


@pytest.mark.parametrize(("number", "stage"), [("0", None), ("1", "echo")])
def test_numbers_name_the_acoustic_models_own_stages(tmp_path: Path, toys: None, number: str, stage: str | None) -> None:
    options = tiny_options(tmp_path, tmp_path, acoustic_model="echo", train_stage=number)
    assert options.stages() == ((stage,) if stage else ("semantic", "echo"))


def test_an_unknown_choice_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"the acoustic model must be ar-nar.*, found 'echoes'"):
        tiny_options(tmp_path, tmp_path, acoustic_model="echoes")
    with pytest.raises(Exception, match="frames, runs, bpe, found 'words'"):
        tiny_options(tmp_path, tmp_path, unit_sequence="words")
