"""Where the processes of a training meet: as torchrun's variables say, or on this machine alone."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from valle.errors import UserError

HERE = "127.0.0.1"
OF_PROCESS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
OF_MEETING = ("MASTER_ADDR", "MASTER_PORT")


class MeetingError(UserError):
    """Processes that cannot find each other."""


@dataclass(frozen=True)
class ClusterPlace:
    """This process among those of torchrun."""

    rank: int
    size: int
    local_rank: int


def place_of_cluster() -> ClusterPlace | None:
    """What torchrun's variables say, None without them; raises :class:`MeetingError` where only some are set, or not to numbers.

    ``MASTER_ADDR`` and ``MASTER_PORT`` alone say nothing: a job that is over leaves them behind.
    """
    found = {name: text for name in OF_PROCESS if (text := os.environ.get(name, "").strip())}
    if not found:
        for name in OF_PROCESS:  # an empty one says nothing, but libraries read it as a number
            os.environ.pop(name, None)
        return None
    wanted = (*OF_PROCESS, *OF_MEETING)
    absent = [name for name in wanted if not os.environ.get(name, "").strip()]
    said = ", ".join(f"{name}={text}" for name, text in found.items())
    advice = f"start it by torchrun, which sets them all, or without it: unset {' '.join(OF_PROCESS)}"
    if absent:
        raise MeetingError(f"expected {', '.join(wanted)} together, found {said} without {', '.join(absent)}; {advice}")
    try:
        rank, size, local_rank, port = (int(os.environ[name]) for name in (*OF_PROCESS, "MASTER_PORT"))
    except ValueError:
        raise MeetingError(f"expected numbers, found {said}, MASTER_PORT={os.environ['MASTER_PORT']}; {advice}") from None
    if not (0 <= local_rank <= rank < size and 1 <= port <= 65535):
        raise MeetingError(f"expected LOCAL_RANK up to RANK, RANK below WORLD_SIZE and a port, found {said}, MASTER_PORT={port}; {advice}")
    return ClusterPlace(rank=rank, size=size, local_rank=local_rank)


def open_meeting(port: int) -> TCPStore:
    """A store on this machine that its processes meet at: at ``port``, or where that is taken at a free one."""
    if _is_taken(port):
        logging.warning("Port %d is taken; the processes meet at a free one", port)
        port = 0
    return TCPStore(HERE, port, is_master=True, wait_for_workers=False)


def join_meeting(backend: str, *, rank: int, size: int, patience: timedelta, port: int | None) -> None:
    """Join the other processes: at ``port`` of this machine, or where there is none as torchrun's variables say."""
    try:
        if port is None:
            dist.init_process_group(backend, rank=rank, world_size=size, timeout=patience)
        else:
            _forget_absent_interfaces()
            store = TCPStore(HERE, port, is_master=False, timeout=patience)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    except (dist.DistStoreError, dist.DistNetworkError) as error:
        place = HERE if port is not None else f"{os.environ['MASTER_ADDR']} port {os.environ['MASTER_PORT']}"
        raise MeetingError(
            f"expected {size} processes to meet at {place} within {patience.total_seconds() / 60:g} minutes, found them not all there; "
            "is MASTER_ADDR this job's, and were all of them started?"
        ) from error


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HERE, port))
        except OSError:
            return True
    return False


def _forget_absent_interfaces() -> None:
    """A network interface that another machine had, named by variables that came along, would end the run."""
    here = {name for _, name in socket.if_nameindex()} if hasattr(socket, "if_nameindex") else set()
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        named = {name.strip().lstrip("^=") for name in os.environ.get(variable, "").split(",") if name.strip()}
        if named and here and not named & here:
            del os.environ[variable]
