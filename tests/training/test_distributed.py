"""Processes that train together."""

import socket
from pathlib import Path

import pytest
import torch
from tiny_training import in_processes

from valle.errors import UserError
from valle.training.distributed import World, launch, pick_device


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


def test_a_taken_port_is_refused_by_its_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=r"expected port \d+ to be free .* give another --master-port"):
            launch(exchange, 2, taken.getsockname()[1], Path("none"))


def test_devices_that_are_not_there_are_refused() -> None:
    assert pick_device("cpu", World()).type == "cpu"
    with pytest.raises(UserError, match="--device abacus names no device; use auto, cpu, cuda or mps"):
        pick_device("abacus", World())
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="finds no CUDA device here"):
            pick_device("cuda", World())
