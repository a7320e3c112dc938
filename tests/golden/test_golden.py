"""The numbers that a change of structure must leave as they are; see ``write.py`` for how one is renewed.

Tokens are exact: they were the same with ATen's kernels for no vector instructions, AVX2 and AVX-512, and with oneDNN and MKL
held to SSE 4 and to AVX2 (commands in ``write.py``), where logits differed by 3e-6 and weights by 4e-7.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from golden_values import VALUES, largest_difference
from tiny_pipeline import recording
from tiny_training import tiny_loop, tiny_manifests, tiny_options

from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.models.checkpoint import load_checkpoint, model_from_checkpoint
from valle.models.released import load_released

HERE = Path(__file__).parent
TOLERANCES = {"logits": 5e-5, "tokens": 0.0, "continuation": 0.0, "continuation_at_level": 0.0, "three_steps": 1e-5, "names": 0.0}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_as_committed(name: str) -> None:
    committed = json.loads((HERE / "values" / f"{name}.json").read_text())
    assert largest_difference(json.loads(json.dumps(VALUES[name]())), committed) <= TOLERANCES[name]


def test_a_value_that_moved_is_seen() -> None:
    committed = json.loads((HERE / "values" / "logits.json").read_text())
    committed["coarse"][0]["logits"][3] += 1e-3
    assert largest_difference(json.loads((HERE / "values" / "logits.json").read_text()), committed) > TOLERANCES["logits"]


def test_a_released_folder_of_version_0_1_continues_as_it_did() -> None:
    [result] = Pipeline(load_released(HERE / "version-0.1" / "released")).continue_audio(
        recording(2.0), 16000, seed=3, settings=ContinueSettings(prompt_seconds=1.0, max_seconds=0.5, min_seconds=0.5, level="none")
    )
    assert result.units is not None
    expected = json.loads((HERE / "version-0.1" / "continued.json").read_text())
    assert {"units": result.units.tolist(), "codes": result.codes.tolist()} == expected


def test_a_checkpoint_of_version_0_1_loads() -> None:
    state = load_checkpoint(HERE / "version-0.1" / "checkpoint-3.pt")
    model, timeline, acoustic, semantic = model_from_checkpoint(state)
    assert semantic is not None and timeline.frames_per_period == 2 and acoustic.num_codebooks == 3
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, state["model"][name]), name


def test_a_run_of_version_0_1_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = tiny_options(tiny_manifests(Path("tokens")), Path("exp"), max_steps=4, num_epochs=1, valid_interval=1000)
    options.exp_dir.mkdir()
    shutil.copy(HERE / "version-0.1" / "checkpoint-3.pt", options.exp_dir)
    loop = tiny_loop(options)
    assert loop.progress.step == 3
    loop.run()
    assert loop.progress.step == 4
