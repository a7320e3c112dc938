"""Folders of models: what is saved is what is loaded, and in which number format it computes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_client import codes_of
from safetensors.torch import load_file
from tiny_audio import write_sound
from tiny_models import fresh_model
from tiny_pipeline import RATE, recording, tiny_released

from valle.bin import infer
from valle.errors import UserError
from valle.inference.pipeline import Pipeline
from valle.models.audio_lm import AudioLM
from valle.models.folder import ReleasedModelError
from valle.models.released import load_released, save_released


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "model"
    save_released(tiny_released(), folder, dtype=torch.float32)
    return folder


def test_a_saved_pipeline_continues_as_it_did(tmp_path: Path) -> None:
    """Weights that float16 cannot hold are stored as they are: nothing is rounded unasked."""
    before = Pipeline(tiny_released())
    before.save_pretrained(tmp_path / "model")
    assert {tensor.dtype for tensor in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.float32}
    assert codes_of(Pipeline.from_pretrained(tmp_path / "model")) == codes_of(before)
    Pipeline.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "half", dtype="float16")
    Pipeline.from_pretrained(str(tmp_path / "half")).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "half" / "model.safetensors").read_bytes()


def test_nothing_else_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for save in (Pipeline(tiny_released()).save_pretrained, fresh_model().save_pretrained):
        with pytest.raises(UserError, match="holds files that are not a released model"):
            save(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_an_audio_lm_is_saved_and_built_again_without_tokenizers(tmp_path: Path, folder: Path) -> None:
    model = fresh_model(num_units=7).eval()
    model.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.yaml", "model.safetensors"}
    again = AudioLM.from_pretrained(tmp_path / "model")
    assert again.config == model.config and not again.training
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    whole = AudioLM.from_pretrained(str(folder), dtype="bfloat16")
    assert whole.config == load_released(folder).model.config and {weight.dtype for weight in whole.parameters()} == {torch.bfloat16}
    with pytest.raises(ReleasedModelError, match=r"found an AudioLM without them; load it by AudioLM\.from_pretrained"):
        Pipeline.from_pretrained(tmp_path / "model")


def test_damaged_language_models_are_refused(tmp_path: Path) -> None:
    fresh_model().save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "config.yaml"
    config.write_text(config.read_text().replace("num_layers: 2", "num_layers: 3"))
    with pytest.raises(ReleasedModelError, match=r"the model in .* is damaged \(the weights do not fit the settings"):
        AudioLM.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", torch.bfloat16])
def test_language_models_compute_in_the_dtype_asked_for_and_tokenizers_in_float32(folder: Path, dtype: str | torch.dtype) -> None:
    pipeline = Pipeline.from_pretrained(folder, dtype=dtype, device="cpu")
    expected = getattr(torch, str(dtype).removeprefix("torch."))
    assert pipeline.dtype == expected and pipeline.device == torch.device("cpu")
    codec = [*pipeline.acoustic.parameters(), *pipeline.acoustic.buffers()]
    assert {weight.dtype for weight in codec if weight.is_floating_point()} == {torch.float32}
    [result] = pipeline.continue_audio(recording(2), RATE, max_seconds=1)
    [exact] = Pipeline.from_pretrained(folder).continue_audio(recording(2), RATE, max_seconds=1)
    kept = exact.own_samples // pipeline.acoustic.hop_length
    assert result.generated_seconds == 1.0 and kept > 10
    assert torch.equal(result.codes[:kept], exact.codes[:kept]), "the prompt's tokens are the same"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "kind", [{"conditioning": "prefix"}, {"conditioning": "prefix", "num_coarse": 2}, {"num_coarse": 3, "rates": "50/75"}, {"units": False}]
)
def test_every_kind_of_model_continues_in_half_precision(kind: dict[str, Any], dtype: str) -> None:
    [result] = Pipeline(tiny_released(**kind), dtype=dtype).continue_audio(recording(2), RATE, max_seconds=0.5)
    assert result.generated_seconds == 0.5 and np.isfinite(result.wav).all()


def test_to_moves_and_casts_as_torch_does(folder: Path) -> None:
    pipeline = Pipeline.from_pretrained(folder)
    assert pipeline.to("cpu") is pipeline and pipeline.dtype == torch.float32
    assert pipeline.to(torch.bfloat16).dtype == torch.bfloat16
    assert pipeline.to("cpu", "float16").dtype == torch.float16 and pipeline.to(dtype=torch.float32).dtype == torch.float32
    for wrong in ("int4", torch.int16, "half a float"):
        with pytest.raises(UserError, match="expected a number format of float32, bfloat16, float16"):
            pipeline.to(dtype=wrong)
    with pytest.raises(UserError, match="names no device"):
        pipeline.to("toaster")


def test_infer_computes_in_the_dtype_of_its_flag(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sound(tmp_path / "a.wav", 1.0)
    flags = f"--audio-prompts {tmp_path}/a.wav --output-dir {tmp_path}/out --model {folder} --max-seconds 1"
    formats = []
    watched = Pipeline.continue_each

    def continue_each(pipeline: Pipeline, *args: object, **options: object) -> object:
        formats.append(pipeline.dtype)
        return watched(pipeline, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Pipeline, "continue_each", continue_each)
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setattr(sys, "argv", ["infer.py", *flags.split(), "--dtype", dtype])
        infer.main()
    assert formats == [torch.float32, torch.bfloat16]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]["dtype"] == "bfloat16"
    monkeypatch.setattr(sys, "argv", ["infer.py", *flags.split(), "--dtype", "int4"])
    with pytest.raises(UserError, match="expected float32, bfloat16, float16 or int8 for --dtype, found int4"):
        infer.main()
