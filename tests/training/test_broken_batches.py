"""A loss or gradients that are not finite end a run at once, with the batch kept and named."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_codec import audio_manifest, codec_loop, codec_options
from tiny_training import Run, differences, in_processes, tiny_loop, tiny_options
from torch import Tensor, nn

from valle.models.checkpoint import load_checkpoint
from valle.training.audio_lm_task import AudioLMTask
from valle.training.bad_batches import BadBatches
from valle.training.diagnose import first_not_finite
from valle.training.distributed import World
from valle.training.errors import BrokenBatchError
from valle.training.loop import Loop
from valle.training.options import AudioLMOptions


def broken_loop(options: AudioLMOptions, value: float, world: World | None = None) -> Loop:
    """A run whose coarse embedding holds ``value`` everywhere, and that stops for it at once."""
    loop = tiny_loop(replace(options, max_bad_batches=0), world)
    with torch.no_grad():
        loop.task.model.coarse.embed.weight.fill_(value)
    return loop


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_batch_saved_and_named(value: float, manifests: Path, tmp_path: Path) -> None:
    loop = broken_loop(tiny_options(manifests, tmp_path), value)
    before = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    with pytest.raises(BrokenBatchError) as caught:
        loop.run()
    said = str(caught.value)
    assert "the loss of coarse became infinite or not a number at step 1" in said
    assert str(tmp_path / "batch-1.pt") in said and "semantic" not in said and "--inf-check true" in said and "lower --base-lr" in said
    kept = torch.load(tmp_path / "batch-1.pt", weights_only=True)
    [expected] = [next(loop.task.batches(epoch=1, skip=0, world=World()))]
    assert differences(kept["batches"], [dict(expected)]) == [] and kept["step"] == 1 and kept["seed"] == 42
    after = loop.task.model.state_dict()
    assert all(torch.equal(torch.nan_to_num(before[name]), torch.nan_to_num(after[name])) for name in before)  # nothing was moved


def test_a_loss_that_is_not_finite_never_enters_the_means(manifests: Path, tmp_path: Path) -> None:
    """Others dropped it from the running mean, so that nobody saw it."""
    loop = broken_loop(tiny_options(manifests, tmp_path), float("nan"))
    with pytest.raises(BrokenBatchError):
        loop.run()
    assert loop.progress.total == {} and not list(tmp_path.glob("checkpoint-*")) and not list(tmp_path.glob("epoch-*"))


def test_the_check_names_the_module_whose_output_broke(manifests: Path, tmp_path: Path) -> None:
    with pytest.raises(BrokenBatchError, match=r"first in module coarse\.embed\)"):
        broken_loop(tiny_options(manifests, tmp_path, inf_check=True, max_bad_batches=0), float("nan")).run()


def test_gradients_that_are_not_finite_stop_and_move_nothing(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, inf_check=True, max_bad_batches=0))
    head = loop.task.model.fine.head_bias
    head.register_hook(lambda grad: grad * float("inf"))
    before = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    with pytest.raises(BrokenBatchError, match=r"the gradients became infinite .* at step 1 \(first in module fine\)"):
        loop.run()
    assert (tmp_path / "batch-1.pt").is_file()
    assert differences(before, dict(loop.task.model.state_dict())) == []


def test_the_broken_one_of_several_micro_batches_is_found(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, inf_check=True, max_bad_batches=0, accumulate_grad_steps=3))
    first: list[Tensor] = []

    def break_the_first(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        first.append(inputs[0].detach())
        return output * float("nan") if torch.equal(inputs[0], first[0]) else output

    loop.task.model.semantic.transformer.register_forward_hook(break_the_first)
    with pytest.raises(BrokenBatchError, match=r"first in module semantic\.transformer"):
        loop.run()
    assert len(torch.load(tmp_path / "batch-1.pt", weights_only=True)["batches"]) == 3


def break_on_the_second(world: World, options: AudioLMOptions) -> None:
    loop = tiny_loop(options, world)
    if world.rank == 1:
        loop.task.model.coarse.head.register_forward_hook(lambda module, inputs, output: output + float("inf"))
    try:
        loop.run()
    except BrokenBatchError as error:
        (options.exp_dir / f"said-{world.rank}").write_text(str(error))


def test_every_rank_stops_for_the_batch_of_one_and_names_its_module(manifests: Path, tmp_path: Path) -> None:
    assert in_processes(break_on_the_second, tiny_options(manifests, tmp_path, inf_check=True, max_bad_batches=0), size=2) == [0, 0]
    for rank, name in ((0, "batch-1.pt"), (1, "batch-1-rank1.pt")):
        said = (tmp_path / f"said-{rank}").read_text()
        assert "the loss of coarse" in said and "first in module coarse.head" in said and name in said
        assert (tmp_path / name).is_file()


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


@pytest.mark.parametrize(
    ("module", "x", "name"),
    [
        (nn.Sequential(nn.Linear(2, 2), Root()), torch.full((1, 2), 1e4), "1"),  # the root of something negative
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Root()), torch.full((1, 2), 1e4), "1"),  # the slope of the root at 0
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.full((1, 2), 1e4), None),
    ],
)
def test_the_first_module_that_is_not_finite_is_named(module: nn.Sequential, x: Tensor, name: str | None) -> None:
    with torch.no_grad():
        module[0].weight.fill_(-1.0)
    run: Callable[[], None] = lambda: module(x).sum().backward()  # noqa: E731
    assert first_not_finite(module, run) == name


def test_what_broke_leaves_the_last_checkpoint_to_go_on_from(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    tiny_loop(tiny_options(manifests, tmp_path, max_steps=3)).run()
    loop = broken_loop(tiny_options(manifests, tmp_path), float("nan"))
    with pytest.raises(BrokenBatchError, match="at step 4"):
        loop.run()
    again = tiny_loop(tiny_options(manifests, tmp_path))
    again.run()
    assert differences(unbroken.state["model"], dict(again.task.model.state_dict())) == []


class Spoiled:
    """Mixed into a task: the batches of some steps hold what makes every loss infinite."""

    spoiled: frozenset[int] = frozenset()

    def batches(self, **place: Any) -> Iterator[Any]:
        for number, batch in enumerate(super().batches(**place), place["skip"] + 1):  # type: ignore[misc]
            self.model.spoil = number in self.spoiled and place["epoch"] == 1  # type: ignore[attr-defined]
            yield batch


class SpoiledTask(Spoiled, AudioLMTask):
    pass


def spoiled_loop(options: AudioLMOptions, steps: set[int]) -> Loop:
    task = SpoiledTask(options)
    task.spoiled = frozenset(steps)

    def spoil(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * float("inf") if getattr(task.model, "spoil", False) else output

    task.model.coarse.head.register_forward_hook(spoil)
    return Loop(task, options, World())


def test_bad_batches_are_kept_and_named_and_passed_over(manifests: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loop = spoiled_loop(tiny_options(manifests, tmp_path, num_epochs=1, valid_interval=1000), {2, 3})
    moved: list[Tensor] = []
    loop.task.model.register_forward_pre_hook(lambda *_: moved.append(loop.task.model.fine.head_bias.detach().clone()))
    with caplog.at_level("WARNING"):
        loop.run()
    assert loop.progress.step == 5 and loop.progress.bad_in_a_row == 0
    assert torch.equal(moved[2], moved[1]) and not torch.equal(moved[1], moved[0])  # a step that is not finite moves nothing
    kept = torch.load(tmp_path / "batch-2.pt", weights_only=True)
    assert kept["cuts"] and all(cut.startswith("train-") for cut in kept["cuts"]) and kept["epoch"] == 1
    assert sorted(path.name for path in tmp_path.glob("batch-*.pt")) == ["batch-2.pt", "batch-3.pt"]
    [first, _] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "Step 2: the loss of coarse not finite" in first and "batch-2.pt" in first and kept["cuts"][0] in first
    assert all(math.isfinite(nats) for nats, _, _ in loop.progress.total.values())


def test_too_many_in_a_row_stop_the_run_and_the_same_command_passes_them(manifests: Path, tmp_path: Path) -> None:
    """Before, the same command failed at the same batch for ever."""
    options = tiny_options(manifests, tmp_path, num_epochs=1, max_bad_batches=1)
    with pytest.raises(BrokenBatchError, match="at step 3, the last of 2 in a row"):
        spoiled_loop(options, {2, 3}).run()
    again = spoiled_loop(options, {2, 3})
    again.run()
    assert again.progress.step == 5
    patient = spoiled_loop(replace(options, exp_dir=tmp_path / "patient", max_bad_batches=2), {2, 3})
    patient.run()
    assert differences(dict(again.task.model.state_dict()), dict(patient.task.model.state_dict())) == []
    assert BadBatches(options, World()).known == {2, 3} and BadBatches(replace(options, base_lr=0.01), World()).known == frozenset()


def test_a_run_killed_after_a_bad_batch_ends_as_an_unbroken_one(manifests: Path, tmp_path: Path) -> None:
    options = tiny_options(manifests, tmp_path / "whole", valid_interval=2)
    spoiled_loop(options, {2}).run()
    cut = replace(options, exp_dir=tmp_path / "cut")
    spoiled_loop(replace(cut, max_steps=3), {2}).run()
    spoiled_loop(cut, {2}).run()
    whole, again = (load_checkpoint(tmp_path / name / "epoch-2.pt") for name in ("whole", "cut"))
    for key in ("model", "optimizer", "model_avg"):
        assert differences(whole[key], again[key]) == [], key


def test_what_a_bad_pass_moved_beside_the_weights_is_put_back(tmp_path: Path) -> None:
    loop = codec_loop(codec_options(audio_manifest(tmp_path), tmp_path))
    before = {name: buffer.clone() for name, buffer in loop.task.model.named_buffers()}
    loop.progress.step, loop.progress.batch = 1, 1
    loop.train_step([next(loop.task.batches(epoch=1, skip=0, world=World())) * float("nan")])
    assert loop.progress.bad_in_a_row == 1
    assert differences(before, dict(loop.task.model.named_buffers())) == []
    [line] = (tmp_path / "bad-batches.jsonl").read_text().splitlines()
    assert len(json.loads(line)["cuts"]) == loop.options.batch_size  # type: ignore[attr-defined]
