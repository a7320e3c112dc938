"""Processes that train together: under ``torchrun``, or started here by ``--world-size``."""

from __future__ import annotations

import os
import signal
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
from valle.training.meeting import join_meeting, open_meeting, place_of_cluster


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

    Processes that are started here meet on this machine, whatever a cluster's variables say.  A ``UserError`` of any process
    ends all, and is raised here.  To wait for another process longer than ``patience`` is an error.
    """
    place = place_of_cluster()
    if place is not None:
        world = World(rank=place.rank, size=place.size, local_rank=place.local_rank)
        _run_one(world, run, device, patience, None, args)
    elif world_size == 1:
        run(World(), *args)
    else:
        store = open_meeting(master_port)
        errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
        method = torch.multiprocessing.get_start_method()
        try:
            spawn_quietly(_run_spawned, (run, world_size, device, patience, store.port, errors, method, args), world_size)
        except ProcessExitedException as error:
            if not errors.empty():
                raise UserError(errors.get()) from None
            raise SystemExit(error.exit_code if error.exit_code > 0 else 1) from None


def spawn_quietly(run: Callable[..., None], args: tuple[Any, ...], count: int) -> None:
    """``torch.multiprocessing.spawn``, but Ctrl-C is heard by this process alone, which ends the others.

    A terminal sends it to all of them, and each that was still importing would show a traceback.
    """
    context = None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit the mask
    try:
        try:
            context = spawn(run, args=args, nprocs=count, join=False)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        while not context.join():
            pass
    except KeyboardInterrupt:
        for process in context.processes if context else ():
            process.terminate()
        raise


def _run_spawned(
    rank: int,
    run: Callable[..., None],
    size: int,
    device: str,
    patience: timedelta,
    port: int,
    errors: Any,
    method: str,
    args: tuple[Any, ...],
) -> None:
    # A spawned process would spawn its own readers of batches too, which import everything anew in every epoch.
    torch.multiprocessing.set_start_method(method, force=True)
    try:
        _run_one(World(rank=rank, size=size, local_rank=rank), run, device, patience, port, args)
    except (UserError, OSError) as error:
        text = explained(error) if isinstance(error, OSError) else str(error)
        if text is None:
            raise
        errors.put(text)
        raise SystemExit(2) from None


def _run_one(world: World, run: Callable[..., None], device: str, patience: timedelta, port: int | None, args: tuple[Any, ...]) -> None:
    use_cuda = torch.cuda.is_available() and device in ("auto", "cuda")
    if use_cuda:
        if world.local_rank >= torch.cuda.device_count():
            raise UserError(f"expected at most {torch.cuda.device_count()} processes, one a GPU, found {world.size}; lower --world-size")
        torch.cuda.set_device(world.local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world.size))  # every process would take all cores otherwise
    join_meeting("nccl" if use_cuda else "gloo", rank=world.rank, size=world.size, patience=patience, port=port)
    try:
        run(world, *args)
    finally:
        dist.destroy_process_group()


def pick_device(name: str, world: World) -> torch.device:
    """What ``--device`` names; of several GPUs, this process's own."""
    device = find_device(name)
    return torch.device("cuda", world.local_rank) if device.type == "cuda" and device.index is None else device
