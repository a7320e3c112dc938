"""Processes that train together."""

import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from tiny_training import in_processes, tiny_manifests, tiny_options

from valle.errors import UserError
from valle.training.distributed import World, launch, pick_device
from valle.training.train import train_audio_lm


def exchange(world: World, folder: Path) -> None:
    """Every collective that the loop uses, checked on every rank."""
    assert world.is_first == (world.rank == 0) and world.size == 2
    assert world.sum(torch.tensor([1.0, float(world.rank)])).tolist() == [2.0, 1.0]
    assert world.gather({"rank": world.rank}) == [{"rank": 0}, {"rank": 1}]
    assert world.broadcast(f"from {world.rank}") == "from 0"
    world.barrier()
    (folder / f"rank-{world.rank}").touch()


def test_two_processes_sum_gather_and_broadcast(tmp_path: Path) -> None:
    assert in_processes(exchange, tmp_path, size=2) == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank-0", "rank-1"]


def test_one_process_needs_nobody() -> None:
    world = World()
    assert world.sum(torch.tensor(3.0)).item() == 3 and world.gather("x") == ["x"] and world.broadcast(5) == 5
    world.barrier()


STALE = {
    "MASTER_ADDR": "203.0.113.7",  # of another job, and an address that answers nobody
    "MASTER_PORT": "1",
    "GLOO_SOCKET_IFNAME": "of-another-machine0",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "RANK": " ",
    "LOCAL_RANK": "",
}


def test_own_processes_meet_on_this_machine_whatever_a_cluster_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STALE.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as taken:  # as a first training on this machine has it
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        launch(exchange, 2, taken.getsockname()[1], tmp_path, device="cpu", patience=timedelta(seconds=60))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank-0", "rank-1"]


WHOLE = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RANK": None}, "found WORLD_SIZE=2, LOCAL_RANK=0 without RANK"),
        ({"RANK": "", "LOCAL_RANK": ""}, "found WORLD_SIZE=2 without RANK, LOCAL_RANK"),
        ({"WORLD_SIZE": None}, "without WORLD_SIZE"),
        ({"LOCAL_RANK": None}, "without LOCAL_RANK"),
        ({"MASTER_ADDR": None, "MASTER_PORT": ""}, "without MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "first"}, "expected numbers, found RANK=first"),
        ({"RANK": "2"}, "RANK below WORLD_SIZE"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK up to RANK"),
        ({"MASTER_PORT": "99999"}, "a port, found"),
    ],
)
def test_half_set_variables_are_one_line(changes: dict[str, str | None], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**WHOLE, **changes}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said) as caught:
        launch(exchange, 1, 29998, Path("none"))
    assert "\n" not in str(caught.value) and "torchrun" in str(caught.value)


def wait_alone(world: World, port: int) -> None:
    os.environ.update({**WHOLE, "MASTER_PORT": str(port)})
    with pytest.raises(UserError, match=r"expected 2 processes to meet at 127.0.0.1 port \d+ within 0.03.* is MASTER_ADDR this job's"):
        launch(exchange, 1, port, Path("none"), device="cpu", patience=timedelta(seconds=2))


def test_empty_variables_of_a_cluster_are_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """lhotse's samplers read an empty WORLD_SIZE as a number."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    options = tiny_options(tiny_manifests(tmp_path / "tokens"), tmp_path / "exp", max_steps=1, num_epochs=1)
    train_audio_lm(options)
    assert (tmp_path / "exp" / "checkpoint-1.pt").is_file()


def test_processes_that_never_come_end_the_wait_with_one_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert in_processes(wait_alone, port) == [0]


def test_devices_that_are_not_there_are_refused() -> None:
    assert pick_device("cpu", World()).type == "cpu"
    with pytest.raises(UserError, match="--device abacus names no device; use auto, cpu, cuda or mps"):
        pick_device("abacus", World())
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="finds no CUDA device here"):
            pick_device("cuda", World())
