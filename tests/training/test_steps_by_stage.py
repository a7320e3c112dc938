"""Each stage has steps of its own size and rate, from the batches of one sampler."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_training import differences, in_processes, progress_of, run_to_end, tiny_loop, tiny_options, train

from valle.data.dataset import Batch
from valle.data.stage_batches import collected
from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint
from valle.training.distributed import World


def numbered(skip: int) -> Iterator[Batch]:
    """Seven batches of two stages, whose rows hold the batch's number and are longer from batch to batch."""
    for number in range(skip, 7):
        rows = torch.full((2, number + 1), number)
        batch = Batch({stage: {"units": rows, "lengths": torch.tensor([number + 1] * 2)} for stage in ("a", "b")})
        batch.cut_ids = (f"cut-{number}",)
        yield batch


def held(batches: Iterator[Batch]) -> list[dict[str, list[int]]]:
    """The numbers of the batches of which each stage has rows."""
    return [{stage: tensors["units"][:, 0].unique().tolist() for stage, tensors in batch.items()} for batch in batches]


ONE_TO_THREE = [
    {"a": [0]}, {"a": [1]}, {"a": [2], "b": [0, 1, 2]}, {"a": [3]}, {"a": [4]}, {"a": [5], "b": [3, 4, 5]}, {"a": [6]}, {"b": [6]},
]  # fmt: skip


def test_a_stage_collects_batches_and_an_epochs_rest_is_a_smaller_step() -> None:
    assert held(collected(numbered, {"a": 1, "b": 3}, skip=0)) == ONE_TO_THREE


@pytest.mark.parametrize("skip", range(9))
def test_what_was_collected_when_a_run_stopped_is_read_again(skip: int) -> None:
    assert held(collected(numbered, {"a": 1, "b": 3}, skip=skip)) == ONE_TO_THREE[skip:]


@pytest.mark.parametrize("skip", range(5))
def test_no_batch_is_empty_where_every_stage_collects(skip: int) -> None:
    pairs = [{"a": pair, "b": pair} for pair in ([0, 1], [2, 3], [4, 5], [6])]
    assert held(collected(numbered, {"a": 2, "b": 2}, skip=skip)) == pairs[skip:]


def test_rows_of_several_batches_are_padded_to_the_longest_and_named() -> None:
    whole = next(collected(numbered, {"a": 3, "b": 3}, skip=0))
    assert whole["a"]["units"].tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0], [2, 2, 2], [2, 2, 2]]
    assert whole["a"]["lengths"].tolist() == [1, 1, 2, 2, 3, 3] and whole.cut_ids == ("cut-0", "cut-1", "cut-2")


@pytest.mark.parametrize("steps", [2, 4, 5])
def test_a_run_stopped_between_two_steps_of_a_stage_goes_on_to_the_same_weights(steps: int, manifests: Path, tmp_path: Path) -> None:
    changes = {"fine_batches": 3, "fine_crops": 2, "fine_lr": 0.02}
    whole = train(tiny_options(manifests, tmp_path / "whole", **changes))
    tiny_loop(tiny_options(manifests, tmp_path / "cut", max_steps=steps, **changes)).run()
    again = train(tiny_options(manifests, tmp_path / "cut", **changes))
    ours, theirs = progress_of(whole), progress_of(again)
    assert differences(ours["model"], theirs["model"]) == [] and differences(ours["optimizer"], theirs["optimizer"]) == []


def test_a_step_without_a_stage_leaves_its_weights_and_the_joint_one_moves_them(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, fine_batches=2, weight_decay=0.1, optimizer_name="AdamW", base_lr=0.001))
    batches = loop.task.batches(epoch=1, skip=0, world=World())
    moved = []
    for step in (1, 2):
        loop.progress.step = step
        before = {name: weight.clone() for name, weight in loop.task.model.state_dict().items()}
        loop.train_step([next(iter(batches))])
        moved.append({name.partition(".")[0] for name, weight in loop.task.model.state_dict().items() if not weight.equal(before[name])})
    assert moved == [{"semantic", "coarse"}, {"semantic", "coarse", "fine"}]


def test_a_stages_own_rate_is_that_of_its_groups(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, coarse_lr=0.01, base_lr=0.04, warmup_steps=0))
    loop.progress.step = 1
    loop.train_step([next(iter(loop.task.batches(epoch=1, skip=0, world=World())))])
    rates = {group["part"]: group["lr"] for group in loop.optimizer.param_groups}
    assert rates["coarse"] == pytest.approx(rates["fine"] / 4) and rates["semantic"] == rates["fine"] > 0


@pytest.mark.parametrize(("flags", "said"), [({"fine_batches": 0}, "--fine-batches"), ({"coarse_lr": -1.0}, "--coarse-lr")])
def test_impossible_steps_are_refused(flags: dict[str, float], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        tiny_options(tmp_path, tmp_path, **flags)


def test_two_processes_leave_a_stage_out_together(manifests: Path, tmp_path: Path) -> None:
    options = tiny_options(manifests, tmp_path, fine_batches=2)
    assert in_processes(run_to_end, options, size=2) == [0, 0]
    counters = load_checkpoint(tmp_path / "epoch-2.pt")["counters"]
    assert counters["step"] > 2 and counters["seen"]["fine"] > 0
