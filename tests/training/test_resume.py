"""A run that was killed and started again by the same command ends as one that never broke, bit for bit."""

import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import Run, differences, in_processes, progress_of, run_to_end, run_until_killed, tiny_loop, tiny_options, train

from valle.models.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World


@pytest.mark.parametrize(("num_workers", "dies_after"), [(0, 4), (2, 8)])
def test_a_run_killed_mid_epoch_ends_with_the_weights_of_an_unbroken_one(
    num_workers: int, dies_after: int, manifests: Path, unbroken: Run, tmp_path: Path
) -> None:
    options = tiny_options(manifests, tmp_path, num_workers=num_workers)
    assert in_processes(run_until_killed, options, dies_after) == [-signal.SIGKILL]
    stopped = load_checkpoint(tmp_path / f"checkpoint-{dies_after // 3 * 3}.pt")
    assert stopped["counters"]["batch"] > 0 and not (tmp_path / "epoch-2.pt").exists()  # in the middle of an epoch
    assert differences(progress_of(unbroken.state), progress_of(train(options))) == []
    for name in ("best-valid-loss.pt", "best-train-loss.pt"):
        assert differences(load_checkpoint(unbroken.exp_dir / name)["model"], load_checkpoint(tmp_path / name)["model"]) == []


@pytest.mark.parametrize(("num_workers", "dies_after"), [(0, 3), (2, 5)])
def test_two_processes_killed_mid_epoch_end_with_the_weights_of_two_unbroken_ones(
    num_workers: int, dies_after: int, manifests: Path, unbroken_pair: Run, tmp_path: Path
) -> None:
    options = tiny_options(manifests, tmp_path, save_every_n=2, num_workers=num_workers)
    assert in_processes(run_until_killed, options, dies_after, size=2) == [-signal.SIGKILL] * 2
    assert not (tmp_path / "epoch-2.pt").exists() and (tmp_path / f"checkpoint-{dies_after - 1}.pt").exists()
    assert in_processes(run_to_end, options, size=2) == [0, 0]
    assert differences(progress_of(unbroken_pair.state), progress_of(load_checkpoint(tmp_path / "epoch-2.pt"))) == []


@pytest.mark.parametrize("start", [{"start_batch": 3}, {"start_batch": 6}, {"start_epoch": 2}])
def test_a_run_started_from_a_named_checkpoint_ends_with_the_same_weights(
    start: dict[str, int], manifests: Path, unbroken: Run, tmp_path: Path
) -> None:
    shutil.copytree(unbroken.exp_dir, tmp_path, dirs_exist_ok=True)
    (tmp_path / "epoch-2.pt").unlink()
    again = train(tiny_options(manifests, tmp_path, keep_last_k=99, **start))
    assert differences(progress_of(unbroken.state), progress_of(again)) == []


def test_a_run_cut_by_max_steps_goes_on_to_the_same_weights(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    tiny_loop(tiny_options(manifests, tmp_path, max_steps=7)).run()
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-7.pt"
    again = train(tiny_options(manifests, tmp_path))
    assert differences(unbroken.state["model"], again["model"]) == []
    assert differences(unbroken.state["optimizer"], again["optimizer"]) == []


def test_a_run_that_is_done_stays_as_it_is(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    shutil.copytree(unbroken.exp_dir, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "epoch-2.pt").read_bytes()
    tiny_loop(tiny_options(manifests, tmp_path, keep_last_k=99)).run()
    assert (tmp_path / "epoch-2.pt").read_bytes() == before


def test_accumulated_steps_resume_at_the_batch_they_reached(manifests: Path, tmp_path: Path) -> None:
    whole = train(tiny_options(manifests, tmp_path / "whole", accumulate_grad_steps=2))
    tiny_loop(tiny_options(manifests, tmp_path / "cut", accumulate_grad_steps=2, max_steps=2)).run()
    assert load_checkpoint(tmp_path / "cut" / "checkpoint-2.pt")["counters"]["batch"] == 4
    again = train(tiny_options(manifests, tmp_path / "cut", accumulate_grad_steps=2))
    assert differences(whole["model"], again["model"]) == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_prefetched_batches_are_not_lost_on_resume(num_workers: int, manifests: Path, tmp_path: Path) -> None:
    task = AudioLMTask(tiny_options(manifests, tmp_path, num_workers=num_workers))
    whole = list(task.batches(epoch=1, skip=0, world=World()))
    consumed = iter(task.batches(epoch=1, skip=0, world=World()))
    next(consumed), next(consumed)  # the workers are ahead by now
    rest = list(task.batches(epoch=1, skip=2, world=World()))
    assert len(whole) > 3 and differences(whole[2:], rest) == []


def test_every_epoch_has_an_order_and_crops_of_its_own(manifests: Path, tmp_path: Path) -> None:
    task = AudioLMTask(tiny_options(manifests, tmp_path))
    first, again, second = (list(task.batches(epoch=epoch, skip=0, world=World())) for epoch in (1, 1, 2))
    assert differences(first, again) == []
    assert differences(dict(enumerate(first)), dict(enumerate(second))) != []


def test_the_memory_check_does_not_move_the_sampler(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    """Others scanned the restored sampler, and went on at batch 0 instead of 10."""
    tiny_loop(tiny_options(manifests, tmp_path, max_steps=3)).run()
    again = train(tiny_options(manifests, tmp_path, oom_check=True))
    assert differences(unbroken.state["model"], again["model"]) == []


def test_workers_of_another_number_give_the_same_batches(manifests: Path, tmp_path: Path) -> None:
    none, three = (
        list(AudioLMTask(tiny_options(manifests, tmp_path, num_workers=number)).batches(epoch=1, skip=0, world=World()))
        for number in (0, 3)
    )
    assert differences(none, three) == []


BIG = {"model": {"weight": torch.ones(100_000)}}


def save_with_little_room(world: World, path: Path, is_killed: bool) -> None:
    """Write a checkpoint that outgrows what a file may hold: the system kills the process there, or refuses the write."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if is_killed else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    save_checkpoint(path, BIG)


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_kill_or_a_full_disk_while_saving_leaves_the_old_checkpoint(is_killed: bool, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-3.pt"
    save_checkpoint(path, {"model": {"weight": torch.zeros(3)}})
    before = path.read_bytes()
    (code,) = in_processes(save_with_little_room, path, is_killed)
    assert code == (-signal.SIGXFSZ if is_killed else 1)
    assert path.read_bytes() == before and newest_checkpoint(tmp_path) == path
    assert {name for name in os.listdir(tmp_path) if not name.startswith(".")} == {path.name}
    save_checkpoint(path, BIG)
    assert sorted(os.listdir(tmp_path)) == [path.name] and torch.equal(load_checkpoint(path)["model"]["weight"], torch.ones(100_000))


def test_a_half_written_file_of_a_killed_run_is_passed_over(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    tiny_loop(tiny_options(manifests, tmp_path, max_steps=3)).run()
    (tmp_path / ".checkpoint-6.pt.tmp").write_bytes(b"PK half")
    assert differences(unbroken.state["model"], train(tiny_options(manifests, tmp_path))["model"]) == []


def test_the_newest_checkpoint_is_the_one_that_went_further(tmp_path: Path) -> None:
    def write(name: str, **counters: Any) -> None:
        save_checkpoint(tmp_path / name, {"model": {}, "counters": counters})

    assert newest_checkpoint(tmp_path) is None
    write("epoch-1.pt", step=5, epoch=2)
    write("checkpoint-3.pt", step=3, epoch=1)
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch-1.pt"
    write("checkpoint-10.pt", step=10, epoch=2)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10.pt"  # by number, not by name
    write("epoch-2.pt", step=10, epoch=3)
    os.utime(tmp_path / "epoch-2.pt", (0, 0))  # times change when files are copied
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch-2.pt"
    write("checkpoint-best.pt", step=99, epoch=9)
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch-2.pt"
