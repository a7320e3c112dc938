"""``bin/export.py``: from a training run to a folder that needs nothing else."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_pipeline import RATE, checkpoint_state, recording, tiny_codec, tiny_released

from valle.bin import export
from valle.errors import run_program
from valle.inference.continuation import ContinueSettings
from valle.inference.infer import InferOptions
from valle.inference.pipeline import Pipeline
from valle.models.checkpoint import save_checkpoint
from valle.models.coarse import CoarseLM
from valle.models.folder import read_released_weights
from valle.models.released import read_released_config
from valle.tokenizers.registry import save_tokenizer


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "exp" / "epoch-1.pt", checkpoint_state(tiny_released()))
    return tmp_path / "exp"


def run(flags: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["export.py", *flags.split()])
    try:
        run_program(export.main)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_an_exported_folder_continues_as_the_checkpoint_did(exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(f"--exp-dir {exp} --epoch 1 --output-dir {tmp_path}/model --dtype float32", monkeypatch) == 0
    [before] = Pipeline(tiny_released()).continue_audio(recording(2), RATE, max_seconds=1)
    [after] = Pipeline.from_pretrained(tmp_path / "model").continue_audio(recording(2), RATE, max_seconds=1)
    assert torch.equal(before.codes, after.codes)


def test_half_precision_is_the_default_and_speaks(exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(f"--checkpoint {exp}/epoch-1.pt --output-dir {tmp_path}/model", monkeypatch) == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.float16}
    [result] = Pipeline.from_pretrained(tmp_path / "model").continue_audio(recording(2), RATE, max_seconds=1)
    assert result.seconds > 2


def test_in_int8_matrices_err_by_half_a_step_and_are_kept_so(exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in ("float32", "int8"):
        assert run(f"--checkpoint {exp}/epoch-1.pt --output-dir {tmp_path}/{dtype} --dtype {dtype}", monkeypatch) == 0
    exact, stored = read_released_weights(tmp_path / "float32"), load_file(tmp_path / "int8" / "model.safetensors")
    found = read_released_weights(tmp_path / "int8")
    assert exact.keys() == found.keys()
    matrices = [name for name, tensor in stored.items() if tensor.dtype == torch.int8]
    assert any(name.endswith("qkv.weight") for name in matrices) and not any(name.endswith("bias") for name in matrices)
    for name in matrices:
        step = exact[name].flatten(1).abs().amax(1) / 127 * (1 + 2**-8)  # scales are bfloat16
        assert ((found[name] - exact[name]).flatten(1).abs().amax(1) <= step * 0.75).all()
    Pipeline.from_pretrained(tmp_path / "int8").save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == stored.keys() and all(torch.equal(again[name], tensor) for name, tensor in stored.items())


def test_a_model_comes_with_how_it_is_best_sampled_from(exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(f"--checkpoint {exp}/epoch-1.pt --output-dir {tmp_path}/model --sampling coarse:temperature=0.5", monkeypatch) == 0
    pipeline = Pipeline.from_pretrained(tmp_path / "model")
    assert pipeline.model.stages()["coarse"].sampling.temperature == 0.5 and CoarseLM.sampling.temperature != 0.5
    same = {"sampling": {"coarse": replace(CoarseLM.sampling, temperature=0.5)}}
    codes = [found.continue_audio(recording(2), RATE, settings=ContinueSettings(max_seconds=1, **more))[0].codes
             for found, more in ((pipeline, {}), (Pipeline(tiny_released()), same), (Pipeline(tiny_released()), {}))]  # fmt: skip
    assert torch.equal(codes[0], codes[1]) and not torch.equal(codes[0], codes[2])
    options = {"audio_prompts": [tmp_path / "a.wav"], "output_dir": tmp_path}
    stages = pipeline.model.stages()
    assert InferOptions(**options).settings(stages).sampling["coarse"].temperature == 0.5
    assert InferOptions(**options, temperature=0.7).settings(stages).sampling["coarse"].temperature == 0.7
    pipeline.save_pretrained(tmp_path / "again")
    assert read_released_config(tmp_path / "again")["sampling"] == {"coarse": {"temperature": 0.5}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("coarse=2", "expected STAGE:FIELD=NUMBER"), ("rq:guidance=2", "expected sampling of one of semantic, coarse, fine, found rq"),
     ("coarse:top_k=2", "expected one of temperature, guidance"), ("coarse:guidance=much", "expected numbers"),
     ("coarse:guidance=2", "needs a model that has learned without"), ("semantic:guidance=2", "expected guidance 1")],
)  # fmt: skip
def test_sampling_that_a_model_cannot_have_is_refused(
    wrong: str, said: str, exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"--checkpoint {exp}/epoch-1.pt --output-dir {tmp_path}/model --sampling {wrong}", monkeypatch) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "model").exists()


def test_an_older_released_model_is_replaced_and_nothing_is_left_beside(exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in ("float32", "float16"):
        assert run(f"--checkpoint {exp}/epoch-1.pt --output-dir {tmp_path}/model --dtype {dtype}", monkeypatch) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".valle-outputs.json", "exp", "model"]
    assert load_file(tmp_path / "model" / "model.safetensors").popitem()[1].dtype == torch.float16


def test_folders_of_other_things_are_not_written_over(
    exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tokenizer(tiny_codec(), tmp_path / "codec")
    (tmp_path / "mine.txt").write_text("mine")
    for there in (exp, tmp_path / "codec", tmp_path / "mine.txt"):
        assert run(f"--checkpoint {exp}/epoch-1.pt --output-dir {there}", monkeypatch) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert (exp / "epoch-1.pt").is_file() and (tmp_path / "codec" / "config.yaml").is_file()


def test_weights_that_are_not_finite_are_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    released = tiny_released()
    next(released.model.parameters()).data[0] = 1e6  # too large for half precision
    save_checkpoint(tmp_path / "a.pt", checkpoint_state(released))
    assert run(f"--checkpoint {tmp_path}/a.pt --output-dir {tmp_path}/model", monkeypatch) == 2
    assert "not finite" in capsys.readouterr().err and not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "flags", ["", "--checkpoint EXP/epoch-1.pt --exp-dir EXP", "--checkpoint EXP/epoch-1.pt --epoch 2", "--exp-dir EXP --avg 2"]
)
def test_flags_that_name_no_run_or_two_are_refused(
    exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: str
) -> None:
    assert run(f"{flags.replace('EXP', str(exp))} --output-dir {tmp_path}/model", monkeypatch) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "model").exists()
