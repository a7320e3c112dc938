"""Training a conversation model: the loop's own promises for it, what its batches hold, and what is released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_corpus import write_corpus
from tiny_dialogues import tiny_conversation_options, write_dialogues
from tiny_training import differences, progress_of

from valle.data.conversation_batches import asked_of_epoch
from valle.data.dialogues import read_dialogues
from valle.errors import UserError
from valle.inference.conversation import Conversation, Line
from valle.inference.export import ExportOptions, export
from valle.models.checkpoint import load_checkpoint
from valle.models.conversation_released import conversation_from_checkpoint, load_conversation
from valle.tokenizing.token_manifests import ManifestError, read_manifests
from valle.training.conversation_options import ConversationOptions
from valle.training.conversation_task import ConversationTask
from valle.training.distributed import World
from valle.training.errors import OtherRunError
from valle.training.loop import Loop
from valle.training.train_conversation import train_conversation


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dialogues(tmp_path_factory.mktemp("dialogues"))


@pytest.fixture(scope="module")
def run(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> ConversationOptions:
    """A finished run."""
    options = tiny_conversation_options(manifests, tmp_path_factory.mktemp("run"))
    train_conversation(options)
    return options


def last(options: ConversationOptions) -> dict[str, Any]:
    return load_checkpoint(options.exp_dir / f"epoch-{options.num_epochs}.pt")


def test_channels_lie_on_one_time_with_their_turns_and_words(manifests: Path) -> None:
    read = read_manifests(manifests)
    dialogues = read_dialogues(read, "train", num_quantizers=3)
    assert len(dialogues) == 6
    for dialogue in dialogues:
        first, second = dialogue.channels
        assert len(first.codes) == len(second.codes) == 200 and len(first.units) == len(second.units) == 100
        assert [turn.channel for turn in dialogue.turns if turn.kind != "back-channel"] == [0, 1, 0, 1]
        for turn in dialogue.turns:
            own = dialogue.channels[turn.channel].codes
            start = round((turn.start - 0.06) * 50) if turn.start else 0
            np.testing.assert_array_equal(turn.codes, own[start : start + len(turn.codes)])
            assert turn.end - turn.start <= len(turn.codes) / 50 <= turn.end - turn.start + 0.161
            assert turn.words[0].symbol == "all" and turn.words[0].start == turn.start


def test_every_turn_is_learned_once_an_epoch_behind_some_of_those_before_it(manifests: Path) -> None:
    dialogues = read_dialogues(read_manifests(manifests), "train", num_quantizers=3)
    epochs = [asked_of_epoch(dialogues, most_frames=100, seed=1, epoch=epoch) for epoch in range(4)]
    assert all([one.id for one in asked] == [one.id for one in epochs[0]] and len(asked) == 24 for asked in epochs)
    for asked in epochs:
        for one in asked:
            earlier = one.turns[:-1]
            assert one.turns[-1].id == one.id and all(turn.kind != "back-channel" for turn in one.turns)
            assert sum(len(turn.codes) for turn in earlier) <= 100 and [turn.start for turn in one.turns] == sorted(
                turn.start for turn in one.turns
            )
    counts = [[len(one.turns) for one in asked] for asked in epochs]
    assert counts[1] != counts[2] and all(max(column) == column[0] for column in zip(*counts, strict=True)), "epoch 0 shows all"


def test_batches_are_shared_and_skipped_as_the_loop_asks(manifests: Path, tmp_path: Path) -> None:
    task = ConversationTask(tiny_conversation_options(manifests, tmp_path, depth_share=0.25))
    batches = list(task.batches(epoch=1, skip=0, world=World()))
    assert sorted(name for batch in batches for name in batch.cut_ids) == sorted(
        turn.id for dialogue in task.train for turn in dialogue.turns if turn.kind != "back-channel"
    )
    assert [batch.cut_ids for batch in task.batches(epoch=1, skip=1, world=World())] == [batch.cut_ids for batch in batches[1:]]
    for batch in batches:
        frames = len(batch["places"]) - len(batch["pieces"])  # without the ends
        assert len(batch["depth_places"]) == pytest.approx(frames / 4, abs=len(batch["pieces"]))
        assert float(batch["depth_weights"].sum()) == pytest.approx(frames)
        flat = batch["codes"].flatten(0, 1)
        assert bool((flat[batch["depth_places"]] < task.model.config.codebook_size).all())
        assert int((flat[batch["places"], 0] == task.model.config.end).sum()) == len(batch["pieces"])


def test_a_run_ends_with_every_levels_loss(run: ConversationOptions) -> None:
    summary = json.loads((run.exp_dir / "summary.json").read_text())
    assert all(summary[f"conversation_{level}"]["valid_nll"] > 0 for level in range(3)) and summary["steps"] > 0


def test_a_run_that_stopped_goes_on_to_the_same_weights(run: ConversationOptions, manifests: Path, tmp_path: Path) -> None:
    stopped = tiny_conversation_options(manifests, tmp_path, max_steps=4)
    Loop(ConversationTask(stopped), stopped, World()).run()
    assert load_checkpoint(tmp_path / "checkpoint-4.pt")["counters"]["step"] == 4
    go_on = tiny_conversation_options(manifests, tmp_path)
    train_conversation(go_on)
    ours, theirs = (progress_of(found)["model"] for found in (last(go_on), last(run)))
    assert differences(ours, theirs) == []


def test_another_context_is_another_run(run: ConversationOptions, manifests: Path) -> None:
    with pytest.raises(OtherRunError, match="--context-seconds was"):
        train_conversation(tiny_conversation_options(manifests, run.exp_dir, context_seconds=1.0))


def test_it_learns_a_batch_by_heart(manifests: Path, tmp_path: Path) -> None:
    options = tiny_conversation_options(
        manifests, tmp_path, decoder_dim=32, num_epochs=200, max_steps=120, overfit_one_batch=True, scheduler_name="cosine", base_lr=0.01,
        epoch_ends=False, save_every_n=0, valid_interval=1000, max_tokens=300, depth_share=0.5,
    )  # fmt: skip
    task = ConversationTask(options)
    [batch, *_] = task.batches(epoch=1, skip=0, world=World())
    before = task.model.loss(**batch).sum.item()
    Loop(task, options, World()).run()
    assert task.model.loss(**batch).sum.item() < 0.3 * before


def test_a_released_folder_speaks_as_the_checkpoint_does(run: ConversationOptions, tmp_path: Path) -> None:
    checkpoint = run.exp_dir / f"epoch-{run.num_epochs}.pt"
    export(ExportOptions(output_dir=tmp_path / "released", checkpoint=checkpoint, dtype="float32"))
    lines = [Line(speaker="Anna", text="Who lost the hat?"), Line(speaker="Peter", text="The king lost the hat.")]
    both = (conversation_from_checkpoint(last(run)), load_conversation(tmp_path / "released"))
    assert both[0].text.identity == both[1].text.identity and both[0].longest_seconds == both[1].longest_seconds > 0
    ours, theirs = (Conversation(released).perform(lines, seed=3) for released in both)
    assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert [len(sound) > 0 for sound in ours] == [True, True]


def test_a_corpus_without_texts_and_too_few_codebooks_are_refused(manifests: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="expected cuts with transcripts"):
        read_dialogues(read_manifests(write_corpus(tmp_path)), "train", num_quantizers=3)
    with pytest.raises(UserError, match="expected at least 5 codebooks"):
        ConversationTask(tiny_conversation_options(manifests, tmp_path / "run", num_quantizers=5))


@pytest.mark.parametrize("changes", [{"depth_share": 0.0}, {"num_quantizers": 1}, {"context_seconds": -1.0}, {"depth_nhead": 3}])
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], manifests: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found"):
        ConversationTask(tiny_conversation_options(manifests, tmp_path, **changes))
