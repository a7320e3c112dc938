"""A loss or gradients that are not finite end a run at once, with the batch kept and named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import Run, differences, in_processes, tiny_loop, tiny_options
from torch import Tensor, nn

from valle.training.diagnose import first_not_finite
from valle.training.distributed import World
from valle.training.errors import BrokenBatchError
from valle.training.loop import Loop
from valle.training.options import AudioLMOptions


def broken_loop(options: AudioLMOptions, value: float, world: World | None = None) -> Loop:
    """A run whose coarse embedding holds ``value`` in one place."""
    loop = tiny_loop(options, world)
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
    assert differences(kept["batches"], [expected]) == [] and kept["step"] == 1 and kept["seed"] == 42
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
        broken_loop(tiny_options(manifests, tmp_path, inf_check=True), float("nan")).run()


def test_gradients_that_are_not_finite_stop_and_move_nothing(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, inf_check=True))
    head = loop.task.model.fine.head_bias
    head.register_hook(lambda grad: grad * float("inf"))
    before = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    with pytest.raises(BrokenBatchError, match=r"the gradients became infinite .* at step 1 \(first in module fine\)"):
        loop.run()
    assert (tmp_path / "batch-1.pt").is_file()
    assert differences(before, dict(loop.task.model.state_dict())) == []


def test_the_broken_one_of_several_micro_batches_is_found(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, inf_check=True, accumulate_grad_steps=3))
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
    assert in_processes(break_on_the_second, tiny_options(manifests, tmp_path, inf_check=True), size=2) == [0, 0]
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
