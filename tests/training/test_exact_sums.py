"""A step over ranks and micro-batches is the step of one process on all of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import differences, in_processes, tiny_loop, tiny_options
from torch.nn.parallel import DistributedDataParallel

from valle.data.dataset import read_tokens
from valle.data.loader import choose_cuts
from valle.seeds import step_seed
from valle.training.distributed import World
from valle.training.logs import Sums
from valle.training.loop import Loop, grouped
from valle.training.options import AudioLMOptions

Gradients = dict[str, torch.Tensor]


def gradients_of(loop: Loop, groups: list[list[int]]) -> tuple[Gradients, Sums]:
    """Of the fixed examples, put into one micro-batch for each of ``groups``."""
    loop.task.model.double()
    loop.model = loop._wrapped()
    dataset = loop.task.dataset(1)  # type: ignore[attr-defined]
    cuts = choose_cuts(loop.task.manifests.cuts("train"), loop.task.sampler, most=8)  # type: ignore[attr-defined]
    examples = [read_tokens(cut, dataset.manifests, dataset.settings.num_quantizers) for cut in cuts]
    sums = loop.gradients([dataset.collate([examples[index] for index in group]) for group in groups])
    return {name: parameter.grad for name, parameter in loop.task.model.named_parameters() if parameter.grad is not None}, sums


def write_gradients(world: World, options: AudioLMOptions, groups: list[list[list[int]]], folder: Path) -> None:
    """Each rank takes its own part of ``groups``."""
    gradients, sums = gradients_of(tiny_loop(options, world), groups[world.rank])
    torch.save({"gradients": gradients, "sums": sums}, folder / f"rank-{world.rank}.pt")


@pytest.mark.parametrize("changes", [{}, {"coarse_conditioning": "prefix"}, {"train_stage": "coarse"}])
def test_two_processes_of_two_micro_batches_have_the_gradients_of_one_process(
    changes: dict[str, Any], manifests: Path, tmp_path: Path
) -> None:
    options = tiny_options(manifests, tmp_path, dropout=0.0, **changes)
    whole, sums = gradients_of(tiny_loop(options), [[0, 1, 2, 3, 4, 5, 6, 7]])
    groups = [[[0, 1, 2], [3]], [[4, 5], [6, 7]]]  # of unequal weight
    assert in_processes(write_gradients, options, groups, tmp_path, size=2) == [0, 0]
    for rank in range(2):
        found = torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True)
        assert found["gradients"].keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(found["gradients"][name], gradient, rtol=0, atol=1e-10)
            assert gradient.dtype == torch.float64
        for part, values in sums.items():
            assert found["sums"][part] == pytest.approx(values, rel=1e-9)
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-3


def test_gradients_are_those_of_the_mean_over_targets(manifests: Path, tmp_path: Path) -> None:
    """The slow way: the mean of each part, differentiated by itself."""
    loop = tiny_loop(tiny_options(manifests, tmp_path, dropout=0.0))
    quick, _ = gradients_of(loop, [[0, 1, 2], [3, 4]])
    quick = {name: gradient.clone() for name, gradient in quick.items()}
    loop.task.model.zero_grad()
    dataset = loop.task.dataset(1)  # type: ignore[attr-defined]
    cuts = choose_cuts(loop.task.manifests.cuts("train"), loop.task.sampler, most=5)  # type: ignore[attr-defined]
    parts = loop.task.model(dataset.collate([read_tokens(cut, dataset.manifests, dataset.settings.num_quantizers) for cut in cuts]))
    sum(part.sum / part.count for part in parts.values()).backward()
    for name, parameter in loop.task.model.named_parameters():
        torch.testing.assert_close(quick[name], parameter.grad, rtol=0, atol=1e-12)


def test_micro_batches_of_unequal_size_count_by_their_targets(manifests: Path, tmp_path: Path) -> None:
    options = tiny_options(manifests, tmp_path, dropout=0.0)
    one, _ = gradients_of(tiny_loop(options), [[0, 1, 2, 3, 4, 5, 6, 7]])
    many, _ = gradients_of(tiny_loop(options), [[0], [1, 2, 3, 4], [5, 6, 7]])
    for name, gradient in one.items():
        torch.testing.assert_close(many[name], gradient, rtol=0, atol=1e-12)


def record_draws(world: World, options: AudioLMOptions, folder: Path) -> None:
    """The first number that each of two steps draws, and the weights after them."""
    loop = tiny_loop(options, world)
    draws = []
    loop.task.model.register_forward_pre_hook(lambda *_: draws.append(torch.rand(1).item()))
    batches = loop.task.batches(epoch=1, skip=0, world=world)
    for _ in range(2):
        loop.progress.step += 1
        loop.train_step([next(batches)])
    torch.save({"draws": draws, "model": loop.task.model.state_dict()}, folder / f"rank-{world.rank}.pt")


def test_ranks_draw_dropout_of_their_own_and_keep_the_same_weights(manifests: Path, tmp_path: Path) -> None:
    """Others gave all ranks one seed."""
    assert in_processes(record_draws, tiny_options(manifests, tmp_path, dropout=0.5), tmp_path, size=2) == [0, 0]
    one, other = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    assert len(set(one["draws"] + other["draws"])) == 4
    assert differences(one["model"], other["model"]) == []


def test_seeds_differ_by_run_rank_and_step() -> None:
    numbers = {step_seed(seed, rank, step) for seed in (1, 42) for rank in range(3) for step in range(50)}
    assert len(numbers) == 2 * 3 * 50 and min(numbers) >= 0 and max(numbers) < 2**63
    assert step_seed(1, 23, 4) != step_seed(12, 3, 4)  # digits do not run together


def test_every_batch_is_in_one_group_and_the_last_may_be_shorter() -> None:
    def batches(count: int) -> Iterator[int]:
        return iter(range(count))

    assert list(grouped(batches(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(grouped(batches(4), 2)) == [[0, 1], [2, 3]]
    assert list(grouped(batches(0), 3)) == []


def look_at_the_wrapper(world: World, options: AudioLMOptions) -> None:
    model = tiny_loop(options, world).model
    assert isinstance(model, DistributedDataParallel) and not model.find_unused_parameters


@pytest.mark.parametrize("stage", ["all", "fine"])
def test_unused_parameters_are_never_searched_for(stage: str, manifests: Path, tmp_path: Path) -> None:
    """Nor need be: every parameter that is trained has a gradient in every step, whichever levels a batch draws."""
    options = tiny_options(manifests, tmp_path, train_stage=stage)
    assert in_processes(look_at_the_wrapper, options, size=2) == [0, 0]
    loop = tiny_loop(options)
    [cut] = choose_cuts(loop.task.manifests.cuts("train"), loop.task.sampler, most=1)  # type: ignore[attr-defined]
    dataset = loop.task.dataset(1)  # type: ignore[attr-defined]
    loop.gradients([dataset.collate([read_tokens(cut, dataset.manifests, dataset.settings.num_quantizers)])])  # one row, one level
    for parameters in loop.task.part_parameters().values():
        assert all(parameter.grad is not None for parameter in parameters)
    assert all(parameter.grad is None for parameter in loop.task.model.parameters() if not parameter.requires_grad)
