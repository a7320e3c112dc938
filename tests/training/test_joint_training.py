"""Training joint-lm: the loop's own promises for it, growth from a run, and what is released, transcribes, speaks and translates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipeline import RATE, recording
from tiny_texts import texts, tiny_joint_options, write_text_corpus
from tiny_training import differences, progress_of

from valle import memory
from valle.corpora.manifests import write_lines
from valle.errors import UserError
from valle.inference.text_speech import TextSpeech
from valle.models.checkpoint import load_checkpoint
from valle.models.joint_released import joint_from_checkpoint, load_joint, save_joint
from valle.training import loop
from valle.training.distributed import World
from valle.training.errors import OtherRunError
from valle.training.joint_options import JointOptions
from valle.training.joint_task import JointLMTask
from valle.training.loop import Loop
from valle.training.train_joint_lm import train_joint_lm

TASKS = ["ASR", "TTS", "MT", "ASR+AST+S2ST"]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_corpus(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def run(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> JointOptions:
    """A finished run."""
    options = tiny_joint_options(manifests, tmp_path_factory.mktemp("run"), tasks=TASKS)
    train_joint_lm(options)
    return options


def last(options: JointOptions) -> dict[str, Any]:
    return load_checkpoint(options.exp_dir / f"epoch-{options.num_epochs}.pt")


def test_a_run_ends_with_every_tasks_loss(run: JointOptions) -> None:
    summary = json.loads((run.exp_dir / "summary.json").read_text())
    assert set(TASKS) < set(summary) and all(summary[task]["valid_nll"] > 0 for task in TASKS)


def test_a_run_that_stopped_goes_on_to_the_same_weights(run: JointOptions, manifests: Path, tmp_path: Path) -> None:
    state = last(run)
    stopped = tiny_joint_options(manifests, tmp_path, tasks=TASKS, max_steps=4)
    Loop(JointLMTask(stopped), stopped, World()).run()
    assert load_checkpoint(tmp_path / "checkpoint-4.pt")["counters"]["step"] == 4
    go_on = tiny_joint_options(manifests, tmp_path, tasks=TASKS)
    train_joint_lm(go_on)
    ours, theirs = (progress_of(found)["model"] for found in (last(go_on), state))
    assert differences(ours, theirs) == []


def test_another_mixture_of_tasks_is_another_run(run: JointOptions, manifests: Path) -> None:
    with pytest.raises(OtherRunError, match="--tasks was"):
        train_joint_lm(tiny_joint_options(manifests, run.exp_dir, tasks=["ASR"]))


def test_every_utterance_is_read_once_an_epoch_and_ranks_share_batches(manifests: Path, tmp_path: Path) -> None:
    task = JointLMTask(tiny_joint_options(manifests, tmp_path, tasks=TASKS))
    batches = list(task.batches(epoch=1, skip=0, world=World()))
    ids = [cut for batch in batches for cut in batch.cut_ids]
    assert sorted(ids) == sorted(task.train_texts.by_id)
    assert [batch.cut_ids for batch in task.batches(epoch=1, skip=1, world=World())] == [batch.cut_ids for batch in batches[1:]]
    assert [batch.cut_ids for batch in task.batches(epoch=2, skip=0, world=World())] != [batch.cut_ids for batch in batches]
    assert all(batch["tokens"].numel() <= 400 or len(batch["tokens"]) == 1 for batch in batches)


def test_sentences_that_nobody_speaks_learn_tasks_of_text_alone(manifests: Path, tmp_path: Path) -> None:
    lines = (json.dumps({"texts": dict(zip(("English", "Spanish"), texts(100 + number), strict=True))}) for number in range(30))
    write_lines(lines, tmp_path / "texts_train.jsonl.gz")
    options = tiny_joint_options(
        manifests, tmp_path / "run", tasks=["ASR", "MT"], more_texts=tmp_path / "texts_train.jsonl.gz", texts_per_utterance=2.0
    )
    task = JointLMTask(options)
    counts = []
    for epoch in (1, 2):
        rows = [(cut, int(number)) for batch in task.batches(epoch=epoch, skip=0, world=World())
                for cut, number in zip(batch.cut_ids, batch["tasks"], strict=True)]  # fmt: skip
        assert all(number == 1 for cut, number in rows if cut.startswith("text-"))
        assert sum(not cut.startswith("text-") for cut, _ in rows) == 12
        counts.append({cut for cut, _ in rows if cut.startswith("text-")})
    assert all(12 <= len(found) <= 36 for found in counts) and counts[0] != counts[1]


def test_a_text_model_grows_into_one_that_hears_and_speaks(manifests: Path, tmp_path: Path) -> None:
    text = tiny_joint_options(manifests, tmp_path / "text", tasks=["LM", "MT"], num_epochs=1)
    assert not text.needs_units
    train_joint_lm(text)
    checkpoint = tmp_path / "text" / "epoch-1.pt"
    grown = JointLMTask(tiny_joint_options(manifests, tmp_path / "grown", tasks=["ASR"], grow_from=checkpoint, new_rows="zero"))
    old = load_checkpoint(checkpoint)["model"]["embed.weight"]
    torch.testing.assert_close(grown.model.embed.weight.detach()[: len(old)], old)
    assert bool((grown.model.embed.weight[len(old) :] == 0).all()) and len(grown.model.embed.weight) == len(old) + 12


def test_a_model_learns_one_batch_by_heart_and_answers_it(manifests: Path, tmp_path: Path) -> None:
    options = tiny_joint_options(
        manifests, tmp_path, tasks=["MT"], decoder_dim=48, num_epochs=50, max_steps=150, scheduler_name="cosine", base_lr=0.01,
        epoch_ends=False, save_every_n=0, valid_interval=1000,
    )  # fmt: skip
    train_joint_lm(options)
    speech = TextSpeech(joint_from_checkpoint(load_checkpoint(tmp_path / "checkpoint-150.pt")))
    assert speech.translate([texts(0)[0], texts(1)[1]], source="English", target="Spanish")[0] == texts(0)[1]
    assert speech.translate([texts(1)[1]], source="Spanish", target="English") == [texts(1)[0]]


def test_a_released_folder_answers_as_the_checkpoint_does(run: JointOptions, tmp_path: Path) -> None:
    released = joint_from_checkpoint(last(run))
    save_joint(released, tmp_path / "released", dtype=torch.float32)
    again = load_joint(tmp_path / "released")
    assert again.text.identity == released.text.identity and again.tasks == tuple(TASKS)
    wav = recording(1.0)
    for task, target in (("ASR", None), ("ASR+AST+S2ST", "Spanish")):
        [one], [other] = (
            TextSpeech(found).answer_audio(task, wav, RATE, language="English", target=target, seed=3) for found in (released, again)
        )
        assert (one.text, one.transcript) == (other.text, other.transcript)


def test_what_was_not_learned_and_what_is_too_long_is_refused(run: JointOptions) -> None:
    speech = TextSpeech(joint_from_checkpoint(last(run)))
    for ask, said in (
        (lambda: speech.answer_audio("S2ST", recording(1.0), RATE, language="English", target="Spanish"), "has learned ASR, TTS"),
        (lambda: speech.transcribe(np.tile(recording(1.0), 30), RATE, language="English"), "expected a recording of 0.1 to"),
        (lambda: speech.speak(["Anna."], language="English", voice=recording(1.0), voice_sample_rate=RATE), "expected a voice model"),
        (lambda: speech.translate([""], source="English", target="Spanish"), "an empty one"),
    ):
        with pytest.raises(UserError, match=said):
            ask()


def test_tasks_and_their_numbers_must_fit() -> None:
    for changes in ({"tasks": []}, {"tasks": ["ASR", "asr"]}, {"task_weights": ["TTS"]}, {"task_shares": ["ASR=0", "TTS=0", "MT=0"]}):
        with pytest.raises(UserError, match="expected"):
            JointOptions(**changes)  # type: ignore[arg-type]
    named = JointOptions(tasks=["MT", "ASR"], task_weights=["TTS=0.3", "ASR=2"])
    assert named.numbers("task_weights") == (1.0, 2.0)


def test_every_step_looks_whether_freed_memory_must_go_back(manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(loop, "MEMORY_SLACK", -1)  # whatever is held is too much
    monkeypatch.setattr(memory, "give_memory_back", lambda: given_back.append(1))
    train_joint_lm(tiny_joint_options(manifests, tmp_path, tasks=TASKS, max_steps=3))
    assert len(given_back) == 3
