"""Processes that train together: under ``torchrun``, or started here by ``--world-size``."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from valle.device import find_device
from valle.errors import UserError, explained


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """``values`` summed over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's plain ``value``, in the order of ranks."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: Any) -> Any:
        """The first process's plain ``value``, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


PATIENCE = timedelta(minutes=30)  # that processes of a training wait for each other: more means that one of them hangs


def launch(
    run: Callable[..., None], world_size: int, master_port: int, *args: Any, device: str = "auto", patience: timedelta = PATIENCE
) -> None:
    """Call ``run(world, *args)`` in every process: those of torchrun, or ``world_size`` started here.

    A ``UserError`` of any process ends all, and is raised here.  To wait for another process longer than ``patience`` is an error.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        _run_one(int(os.environ.get("LOCAL_RANK", rank)), run, size, rank, device, patience, args)
    elif world_size == 1:
        run(World(), *args)
    else:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ["MASTER_PORT"] = str(master_port)
        _refuse_taken(master_port)
        errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
        method = torch.multiprocessing.get_start_method()
        try:
            spawn(_run_spawned, args=(run, world_size, device, patience, errors, method, args), nprocs=world_size)
        except ProcessExitedException as error:
            if not errors.empty():
                raise UserError(errors.get()) from None
            raise SystemExit(error.exit_code if error.exit_code > 0 else 1) from None


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(
                f"expected port {port} to be free for the processes to meet, found it taken ({error.strerror}); give another --master-port"
            ) from None


def _run_spawned(
    local_rank: int, run: Callable[..., None], size: int, device: str, patience: timedelta, errors: Any, method: str, args: tuple[Any, ...]
) -> None:
    # A spawned process would spawn its own readers of batches too, which import everything anew in every epoch.
    torch.multiprocessing.set_start_method(method, force=True)
    try:
        _run_one(local_rank, run, size, None, device, patience, args)
    except (UserError, OSError) as error:
        text = explained(error) if isinstance(error, OSError) else str(error)
        if text is None:
            raise
        errors.put(text)
        raise SystemExit(2) from None


def _run_one(
    local_rank: int, run: Callable[..., None], size: int, rank: int | None, device: str, patience: timedelta, args: tuple[Any, ...]
) -> None:
    rank = local_rank if rank is None else rank
    use_cuda = torch.cuda.is_available() and device in ("auto", "cuda")
    if use_cuda:
        if local_rank >= torch.cuda.device_count():
            raise UserError(f"expected at most {torch.cuda.device_count()} processes, one a GPU, found {size}; lower --world-size")
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))  # every process would take all cores otherwise
    dist.init_process_group("nccl" if use_cuda else "gloo", rank=rank, world_size=size, timeout=patience)
    try:
        run(World(rank=rank, size=size, local_rank=local_rank), *args)
    finally:
        dist.destroy_process_group()


def pick_device(name: str, world: World) -> torch.device:
    """What ``--device`` names; of several GPUs, this process's own."""
    device = find_device(name)
    return torch.device("cuda", world.local_rank) if device.type == "cuda" and device.index is None else device
