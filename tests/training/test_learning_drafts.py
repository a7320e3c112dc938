"""Draft heads from the trainer's flags to a continuation: they are learned, shown apart, and choose no weights."""

import json
from pathlib import Path

import pytest
import torch
from tiny_pipeline import RATE, recording
from tiny_training import Run, tiny_options, train

from valle.audio import write_wav
from valle.decoding.sampling import Drafts, Sampling
from valle.errors import UserError
from valle.inference.drafting import with_drafts
from valle.inference.infer import InferOptions, infer
from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.inference.trained_model import released_from_checkpoint
from valle.models.released import load_released, save_released
from valle.training.audio_lm_task import AudioLMTask, take_stages
from valle.training.best_parts import losses_by_part
from valle.training.finetune import trainer_settings
from valle.training.logs import own

HEADS = {"semantic_drafts": 2, "coarse_drafts": 3, "chained_drafts": True}


@pytest.fixture(scope="module")
def trained(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    exp_dir = tmp_path_factory.mktemp("drafts")
    return Run(exp_dir, train(tiny_options(manifests, exp_dir, keep_last_k=99, **HEADS)))


def test_heads_are_learned_and_stand_apart_in_the_summary(trained: Run, unbroken: Run) -> None:
    summary, plain = (json.loads((run.exp_dir / "summary.json").read_text()) for run in (trained, unbroken))
    for stage, heads in (("semantic", 2), ("coarse", 3)):
        assert len(summary[stage]["drafts"]) == heads and "drafts" not in plain[stage]
        assert summary[stage].keys() - {"drafts"} == plain[stage].keys()
        assert abs(summary[stage]["valid_nll"] - plain[stage]["valid_nll"]) < 0.5  # of one token, whatever the heads add
    last = [json.loads(line) for line in (trained.exp_dir / "curves.jsonl").read_text().splitlines()]
    curve = [row["nll"] for row in last if row["part"] == "semantic_draft1" and row["kind"] == "valid"]
    assert len(curve) > 1 and curve[-1] < curve[0]
    assert {row["part"] for row in last if row["kind"] == "train"} == {"semantic", "coarse", "fine"}


def test_the_best_weights_of_a_stage_are_chosen_by_its_own_loss() -> None:
    sums = {"semantic": (20.0, 10.0, 1.0), "semantic_draft1": (90.0, 9.0, 1.0), "coarse": (30.0, 10.0, 1.0), "fine_2": (10.0, 10.0, 0.0)}
    assert losses_by_part(sums, lambda name: name.partition("_")[0]) == {"semantic": 2.0, "coarse": 3.0, "fine": 1.0}
    assert own(sums).keys() == {"semantic", "coarse", "fine_2"}


def test_a_released_model_drafts_the_same_sound_as_without(trained: Run, tmp_path: Path) -> None:
    save_released(released_from_checkpoint(trained.state), tmp_path / "released", dtype=torch.float32)
    pipeline = Pipeline(load_released(tmp_path / "released"))
    sound = recording(1.5)
    plain, drafted = (
        pipeline.continue_audio(sound, RATE, seed=3, settings=ContinueSettings(max_seconds=1.5, drafts=drafts))[0]
        for drafts in (None, Drafts(3))
    )
    assert plain.units.tolist() == drafted.units.tolist() and plain.codes.tolist() == drafted.codes.tolist()
    write_wav(tmp_path / "a.wav", sound, RATE)
    options = {"audio_prompts": [tmp_path / "a.wav"], "model": tmp_path / "released", "max_seconds": 0.5, "draft_tokens": 2}
    for rule in ("exact", "ratio", "unverified"):
        summary = infer(InferOptions(output_dir=tmp_path / rule, draft_rule=rule, **options))
        assert summary["settings"]["draft_rule"] == rule and summary["items"][0]["generated_seconds"] > 0


def test_stages_draft_as_far_as_they_have_heads_and_a_model_without_refuses_in_a_line(trained: Run, unbroken: Run) -> None:
    model, plain = (released_from_checkpoint(run.state).model for run in (trained, unbroken))
    given = {"coarse": Sampling(temperature=0.3)}
    sampling = with_drafts(model, given, Drafts(3, "ratio"))
    assert sampling["semantic"].drafts == Drafts(2, "ratio") and sampling["coarse"] == Sampling(temperature=0.3, drafts=Drafts(3, "ratio"))
    assert "fine" not in sampling and with_drafts(plain, given, None) is given
    too_many = "found 2 of the semantic stage and 3 of the coarse stage; lower it"
    for refused, number, says in ((model, 4, too_many), (plain, 1, "has none; train")):
        with pytest.raises(UserError, match=says) as error:
            with_drafts(refused, {}, Drafts(number))
        assert "\n" not in str(error.value)


def test_a_trained_stage_is_given_fresh_heads(trained: Run, unbroken: Run, manifests: Path, tmp_path: Path) -> None:
    task = AudioLMTask(tiny_options(manifests, tmp_path, **HEADS))
    fresh = task.model.coarse.drafts.heads[0].weight.clone()
    assert take_stages(task.model, unbroken.exp_dir / "epoch-2.pt") == ["semantic", "coarse", "fine"]
    assert torch.equal(task.model.coarse.head.weight, unbroken.state["model"]["coarse.head.weight"])
    assert torch.equal(task.model.coarse.drafts.heads[0].weight, fresh)
    assert take_stages(task.model, trained.exp_dir / "epoch-2.pt") == ["semantic", "coarse", "fine"]
    assert not torch.equal(task.model.coarse.drafts.heads[0].weight, fresh)
    settings = trainer_settings(trained.exp_dir / "epoch-2.pt")
    assert {name: settings[name] for name in HEADS} == HEADS
