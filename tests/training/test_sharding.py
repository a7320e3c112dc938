"""Weights in shards over processes (FSDP2): the gradients, steps and checkpoints of one process that holds all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_exact_sums import gradients_of
from tiny_training import differences, in_processes, run_to_end, tiny_loop, tiny_options, train

from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint
from valle.training.distributed import World
from valle.training.options import AudioLMOptions
from valle.training.sharding import local, whole


def write_gradients(world: World, options: AudioLMOptions, groups: list[list[list[int]]], folder: Path) -> None:
    """Whole gradients on every rank, from its own part of ``groups``."""
    loop = tiny_loop(options, world)
    gradients, sums = gradients_of(loop, groups[world.rank])
    held = sum(local(parameter).numel() for parameter in loop.task.model.parameters())
    state = {"gradients": whole(gradients), "sums": sums, "held": held, "all": sum(p.numel() for p in loop.task.model.parameters())}
    torch.save(state, folder / f"rank-{world.rank}.pt")


@pytest.mark.parametrize("changes", [{}, {"coarse_conditioning": "prefix", "train_stage": "coarse,fine"}])
def test_two_processes_that_share_a_model_have_the_gradients_of_one_that_holds_it(
    changes: dict[str, Any], manifests: Path, tmp_path: Path
) -> None:
    options = tiny_options(manifests, tmp_path, dropout=0.0, **changes)
    expected, sums = gradients_of(tiny_loop(options), [[0, 1, 2, 3, 4, 5, 6, 7]])
    sharded = tiny_options(manifests, tmp_path, dropout=0.0, fsdp=True, **changes)
    groups = [[[0, 1, 2], [3]], [[4, 5], [6, 7]]]  # of unequal weight
    assert in_processes(write_gradients, sharded, groups, tmp_path, size=2) == [0, 0]
    for rank in range(2):
        found = torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True)
        assert found["gradients"].keys() == expected.keys() and found["held"] < 0.6 * found["all"]
        for name, gradient in expected.items():
            torch.testing.assert_close(found["gradients"][name], gradient, rtol=0, atol=1e-10)
            assert gradient.dtype == torch.float64
        for part, values in sums.items():
            assert found["sums"][part] == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize("optimizer", [{}, {"optimizer_name": "AdamW", "base_lr": 0.003}])
def test_a_run_in_shards_ends_as_one_of_whole_models_and_goes_on_as_either(
    optimizer: dict[str, Any], manifests: Path, tmp_path: Path
) -> None:
    def options(name: str, **changes: Any) -> AudioLMOptions:
        return tiny_options(manifests, tmp_path / name, num_epochs=1, dropout=0.0, **optimizer, **changes)

    assert in_processes(run_to_end, options("whole"), size=2) == [0, 0]
    assert in_processes(run_to_end, options("shared", fsdp=True, max_steps=2), size=2) == [0, 0]
    assert in_processes(run_to_end, options("shared", fsdp=True), size=2) == [0, 0]
    expected, found = (load_checkpoint(tmp_path / name / "epoch-1.pt") for name in ("whole", "shared"))
    assert found["counters"]["step"] == expected["counters"]["step"] == 3
    for name, weight in expected["model"].items():
        torch.testing.assert_close(found["model"][name], weight, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found["model_avg"][name], expected["model_avg"][name], rtol=1e-3, atol=1e-4)
    assert found["optimizer"]["param_groups"][0].keys() == expected["optimizer"]["param_groups"][0].keys()
    for place, values in expected["optimizer"]["state"].items():
        for key, value in values.items():
            other = found["optimizer"]["state"][place][key]
            torch.testing.assert_close(torch.as_tensor(other), torch.as_tensor(value), rtol=1e-2, atol=1e-4)
    before = load_checkpoint(tmp_path / "shared" / "checkpoint-2.pt")
    assert in_processes(run_to_end, options("shared", start_batch=2), size=2) == [0, 0]  # with whole models from there
    again = load_checkpoint(tmp_path / "shared" / "epoch-1.pt")
    assert differences(before["model"], again["model"]) != []
    for name, weight in expected["model"].items():
        torch.testing.assert_close(again["model"][name], weight, rtol=1e-3, atol=1e-4)


def test_one_process_has_nobody_to_share_with(manifests: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected several processes to share a model with --fsdp true, found one"):
        train(tiny_options(manifests, tmp_path, fsdp=True))
    with pytest.raises(UserError, match="--visualize true continues dev recordings with all weights"):
        tiny_options(manifests, tmp_path, fsdp=True, visualize=True)
