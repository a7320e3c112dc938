"""The three unit sequences of the semantic stage, from flags to a released model."""

import json
import shutil
from math import log2
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_corpus import UNITS
from tiny_pipeline import RATE, recording
from tiny_training import Run, differences, progress_of, tiny_loop, tiny_options, train

from valle.audio import write_wav
from valle.data.fit_unit_bpe import UnitBpeOptions, fit
from valle.errors import UserError
from valle.inference.infer import InferOptions, infer
from valle.inference.pipeline import BUNDLED_MODEL, ContinueSettings, Pipeline
from valle.inference.trained_model import released_from_checkpoint
from valle.models.checkpoint import load_checkpoint
from valle.models.released import load_released, save_released
from valle.tokenizers.unit_bpe import UnitBpeError
from valle.training.audio_lm_task import AudioLMTask, take_stages
from valle.training.errors import OtherRunError
from valle.training.finetune import EvaluateOptions, SettingsOf, evaluate, trainer_settings, write_trainer_settings

SEQUENCES = ("runs", "bpe")


@pytest.fixture(scope="session")
def bpe(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bpe") / "unit_bpe.json"
    fit(UnitBpeOptions(manifest_dir=manifests, output=path, vocab_size=20))
    return path


@pytest.fixture(scope="session")
def trained(manifests: Path, bpe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of each, of two epochs."""
    runs = {}
    for name in SEQUENCES:
        exp_dir = tmp_path_factory.mktemp(name)
        runs[name] = Run(exp_dir, train(tiny_options(manifests, exp_dir, keep_last_k=99, unit_sequence=name, unit_bpe=bpe)))
    return runs


def summary_of(run: Run) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run.exp_dir / "summary.json").read_text())
    return values


def test_bits_a_second_count_all_that_is_predicted(trained: dict[str, Run], unbroken: Run, manifests: Path) -> None:
    """On the same dev cuts; the corpus counts up, so its runs last one frame and its byte pairs several."""
    rows = {"frames": summary_of(unbroken)["semantic"], **{name: summary_of(run)["semantic"] for name, run in trained.items()}}
    seconds = rows["frames"]["valid_tokens"] / rows["frames"]["tokens_per_second"]
    for row in rows.values():
        assert row["valid_tokens"] / row["tokens_per_second"] == pytest.approx(seconds)  # the same time, whole utterances
        assert row["bits_per_second"] == pytest.approx(row["valid_nll"] * row["valid_tokens"] / seconds * log2(2.718281828459045))
        assert row["unigram_bits_per_second"] == pytest.approx(row["unigram_nll"] * row["valid_tokens"] / seconds * log2(2.718281828459045))
        assert 0 < row["accuracy"] <= 1
    assert rows["bpe"]["valid_tokens"] < rows["runs"]["valid_tokens"] == rows["frames"]["valid_tokens"]
    parts = rows["runs"]["parts"]
    assert sum(part["bits_per_second"] for part in parts.values()) == pytest.approx(rows["runs"]["bits_per_second"])
    assert parts["duration"]["unigram_nll"] < 0.1 < parts["unit"]["unigram_nll"]  # durations are all 1 here


def test_the_log_has_units_and_durations_apart(trained: dict[str, Run]) -> None:
    curves = [json.loads(line) for line in (trained["runs"].exp_dir / "curves.jsonl").read_text().splitlines()]
    assert {row["part"] for row in curves if row["kind"] == "valid"} >= {"semantic_unit", "semantic_duration", "coarse", "fine_1"}
    assert {row["part"] for row in curves if row["kind"] == "train"} == {"semantic", "coarse", "fine"}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_run_goes_on_as_if_it_had_not_been_broken(name: str, trained: dict[str, Run], manifests: Path, bpe: Path, tmp_path: Path) -> None:
    shutil.copy(trained[name].exp_dir / "checkpoint-6.pt", tmp_path)
    state = train(tiny_options(manifests, tmp_path, keep_last_k=99, unit_sequence=name, unit_bpe=shutil.copy(bpe, tmp_path / "moved")))
    assert differences(progress_of(state), progress_of(trained[name].state)) == []


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_checkpoint_holds_all_that_speaks_and_a_released_folder_speaks_alike(name: str, trained: dict[str, Run], tmp_path: Path) -> None:
    before = released_from_checkpoint(load_checkpoint(trained[name].exp_dir / "epoch-2.pt"))
    save_released(before, tmp_path / "model", dtype=torch.float32)
    after = load_released(tmp_path / "model")
    assert after.model.config == before.model.config and after.model.config.unit_sequence == name
    settings = ContinueSettings(prompt_seconds=1.0, max_seconds=1.0, min_seconds=1.0, level="none")
    rows = [Pipeline(released).continue_audio(recording(2.0), RATE, settings=settings)[0] for released in (before, after)]
    assert rows[0].units is not None and rows[1].units is not None
    assert torch.equal(rows[0].units, rows[1].units) and torch.equal(rows[0].codes, rows[1].codes)
    assert len(rows[0].codes) == 2 * len(rows[0].units) >= 2 * 49  # time-aligned: two frames a unit
    assert 0 <= int(rows[0].units.min()) <= int(rows[0].units.max()) < UNITS
    whole, lengths = before.semantic.encode(torch.from_numpy(recording(1.0))[None], torch.tensor([RATE]))
    kept = int(lengths[0]) - 1 - before.semantic.right_context // before.semantic.hop_length
    assert kept > 9 and torch.equal(rows[0].units[:kept], whole[0, :kept])  # the prompt's own, to its edge


@pytest.mark.parametrize("name", SEQUENCES)
def test_infer_continues_from_a_runs_folder(name: str, trained: dict[str, Run], tmp_path: Path) -> None:
    write_wav(tmp_path / "prompt.wav", recording(1.5), RATE)
    options = InferOptions(
        audio_prompts=[tmp_path / "prompt.wav"], output_dir=tmp_path / "out", exp_dir=trained[name].exp_dir, prompt_seconds=1.0,
        max_seconds=0.6, min_seconds=0.6, num_samples=2, device="cpu",
    )  # fmt: skip
    assert [item["generated_seconds"] for item in infer(options)["items"]] == pytest.approx([0.6, 0.6], abs=0.05)


def test_another_unit_bpe_in_the_same_folder_is_refused_by_its_hash(trained: dict[str, Run], manifests: Path, tmp_path: Path) -> None:
    fit(UnitBpeOptions(manifest_dir=manifests, output=tmp_path / "other.json", vocab_size=20, fit_hours=0.003))
    options = tiny_options(manifests, trained["bpe"].exp_dir, keep_last_k=99, unit_sequence="bpe", unit_bpe=tmp_path / "other.json")
    with pytest.raises(OtherRunError, match="--unit-bpe-sha256 was"):
        tiny_loop(options)
    with pytest.raises(OtherRunError, match="--unit-sequence was bpe, now runs"):
        tiny_loop(tiny_options(manifests, trained["bpe"].exp_dir, keep_last_k=99, unit_sequence="runs"))


def test_a_stage_of_another_sequence_is_not_taken(trained: dict[str, Run], manifests: Path, bpe: Path, tmp_path: Path) -> None:
    task = AudioLMTask(tiny_options(manifests, tmp_path, unit_sequence="bpe", unit_bpe=bpe))
    assert take_stages(task.model, trained["bpe"].exp_dir / "epoch-2.pt") == ["semantic", "coarse", "fine"]
    assert take_stages(task.model, trained["runs"].exp_dir / "epoch-2.pt") == ["coarse", "fine"]
    fit(UnitBpeOptions(manifest_dir=manifests, output=tmp_path / "other.json", vocab_size=20, fit_hours=0.003))
    other = AudioLMTask(tiny_options(manifests, tmp_path, unit_sequence="bpe", unit_bpe=tmp_path / "other.json"))
    assert other.model.semantic.head.weight.shape == task.model.semantic.head.weight.shape  # and yet its tokens are others
    assert take_stages(other.model, trained["bpe"].exp_dir / "epoch-2.pt") == ["coarse", "fine"]


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_model_is_evaluated_and_tuned_without_its_bpes_file(name: str, trained: dict[str, Run], manifests: Path, tmp_path: Path) -> None:
    source = trained[name].exp_dir / "epoch-2.pt"
    found = evaluate(EvaluateOptions(manifest_dir=manifests, init_from=source, filter_min_duration=0.4, num_workers=0))
    expected = summary_of(trained[name])["semantic"]
    assert found["semantic"]["bits_per_second"] == pytest.approx(expected["bits_per_second"], rel=1e-4)
    settings = write_trainer_settings(SettingsOf(init_from=source, output=tmp_path / "tune.yaml"))
    assert settings["unit_sequence"] == name and ("unit_bpe" in settings) == (name == "bpe")


def test_older_models_have_a_unit_a_frame(unbroken: Run) -> None:
    assert trainer_settings(BUNDLED_MODEL)["unit_sequence"] == "frames"
    state = {
        key: value for key, value in unbroken.state.items() if not key.startswith(("unit_seq", "unit_bpe", "longest", "frames_per_tok"))
    }
    assert released_from_checkpoint(state).model.config.unit_sequence == "frames"


def test_what_does_not_fit_is_refused(manifests: Path, bpe: Path, unbroken: Run, tmp_path: Path) -> None:
    for changes, words in (
        ({"unit_bpe": tmp_path / "none.json"}, "expected a unit BPE at"),
        ({"unit_bpe": unbroken.exp_dir / "epoch-2.pt"}, "expected a model with a unit BPE"),
    ):
        with pytest.raises(UnitBpeError, match=words):
            AudioLMTask(tiny_options(manifests, tmp_path, unit_sequence="bpe", **changes))
    values = json.loads(bpe.read_text())
    values["semantic"]["sha256"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"expected a unit BPE of tiny-units .* units, found one of tiny-units \(000000000000\)"):
        AudioLMTask(tiny_options(manifests, tmp_path, unit_sequence="bpe", unit_bpe=tmp_path / "other.json"))
    with pytest.raises(UserError, match="--longest-run must be 1 or more"):
        tiny_options(manifests, tmp_path, longest_run=0)
