#!/usr/bin/env python3
"""A day of listeners in short: streams of a tiny model, some cancelled, broken or slow; memory and descriptors must stay flat.

  python -m benchmarks.live_soak --streams 20000 --output benchmarks/results/live_soak.json

All traffic is of this machine with itself.  The model has random weights, so a stream takes some milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import torch

from benchmarks.common import ROOT, header, write_results
from valle.audio import Waveform
from valle.inference.pipeline import Pipeline
from valle.live.models import ModelShelf
from valle.live.options import ServeOptions
from valle.live.protocol import Hello, pack_audio
from valle.live.serve import LiveServer, bound_socket
from valle.models import AudioLM
from valle.models.released import Released
from valle.timeline import Timeline
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans

RATE = 16000
KINDS = {"whole": 70, "stop": 8, "close": 8, "abort": 5, "broken": 5, "slow": 4}  # of a hundred listeners
STOP = b'\x02{"type": "stop"}'
GROWTH_MIB, SAMPLES = 32.0, 20  # by which memory may grow after the first quarter; how often it is looked at


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=20000)
    parser.add_argument("--at-once", type=int, default=6, help="listeners at once, for 2 places and 8 in the queue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "live_soak.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = header([f"python -m benchmarks.live_soak --streams {options.streams}"])
    pipeline, threads, files = tiny_pipeline(), threading.active_count(), descriptors()
    results.update(asyncio.run(soak(pipeline, options)))
    results["left"] |= {"threads": threading.active_count() - threads, "descriptors": descriptors() - files}
    write_results(options.output, results)
    print(f"{results['memory_mib']}, {results['left']}; written: {options.output}")


async def soak(pipeline: Pipeline, options: argparse.Namespace) -> dict[str, Any]:
    """Every listener, ``at_once`` of them at a time -> what was counted, and what was left."""
    logged = _Warnings()
    logging.getLogger().addHandler(logged)
    server = LiveServer(ServeOptions(port=0, places=2, queue=8), ModelShelf({"tiny": pipeline}))
    draw, told, memory, started = random.Random(options.seed), Counter[str](), list[float](), time.monotonic()
    with bound_socket("127.0.0.1", 0) as listener:
        address = await server.start(listener)
        async with aiohttp.ClientSession() as client:
            async with asyncio.TaskGroup() as group:
                places = asyncio.Semaphore(options.at_once)
                for number in range(options.streams):
                    await places.acquire()
                    kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
                    task = group.create_task(listen(client, address, kind, seed=draw.randrange(2**32)))
                    task.add_done_callback(lambda done: (told.update([done.result()]), places.release()))
                    if number % max(1, options.streams // SAMPLES) == 0:
                        memory.append(resident_mib())
        while server.service.handlers:
            await asyncio.sleep(0.05)
        left = {"handlers": len(server.service.handlers), "active": len(server.service.pool.active)}
        await server.stop(grace_seconds=0)
    logging.getLogger().removeHandler(logged)
    memory.append(resident_mib())
    settled = memory[len(memory) // 4]
    left |= {"tasks": len(asyncio.all_tasks()) - 1, "warnings": len(logged.lines)}
    return {
        "streams": options.streams, "seconds": round(time.monotonic() - started, 1), "outcomes": dict(sorted(told.items())),
        "memory_mib": {"start": memory[0], "settled": settled, "end": memory[-1], "samples": memory},
        "flat": bool(memory[-1] - settled <= GROWTH_MIB), "left": left, "warnings": logged.lines[:5],
    }  # fmt: skip


async def listen(client: aiohttp.ClientSession, address: str, kind: str, *, seed: int) -> str:
    """One listener of a kind -> what came of it."""
    draw = random.Random(seed)
    hello = Hello(
        protocol=1, sample_rate=RATE, prompt_seconds=0.5, max_seconds=20.0 if kind in ("stop", "abort", "close") else 0.3,
        seed=draw.randrange(2**32), level="none",
    )  # fmt: skip
    try:
        async with client.ws_connect(f"{address}/v1/live") as socket:
            await socket.send_bytes(hello.message())
            if kind == "broken":
                await socket.send_bytes(draw.choice([b"", b"\x09", b"\x01\x00", b"\x02{", b"\x00{}", bytes(draw.randbytes(40))]))
            for piece in np.array_split(noise(seed), draw.randint(1, 20)):
                await socket.send_bytes(pack_audio(piece, "pcm16"))
            if kind == "slow":
                await asyncio.sleep(0.2)
            return await until_its_end(socket, kind)
    except (ConnectionError, aiohttp.ClientError):
        return f"{kind}: gone"


async def until_its_end(socket: aiohttp.ClientWebSocketResponse, kind: str) -> str:
    last = b""
    async for message in socket:
        last = message.data
        if last[:1] == b"\1" and kind == "stop":
            await socket.send_bytes(STOP)
        elif last[:1] == b"\1" and kind == "close":
            return "close: left"
        elif last[:1] == b"\1" and kind == "abort":
            connection = socket._response.connection
            if connection is not None and connection.transport is not None:
                connection.transport.abort()
            return "abort: left"
    return f"{kind}: {socket.close_code}"


class _Warnings(logging.Handler):
    """What is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def noise(seed: int) -> Waveform:
    return (0.1 * np.random.default_rng(seed).standard_normal(RATE // 2)).astype(np.float32)


def resident_mib() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def tiny_pipeline() -> Pipeline:
    """Random weights, and tokenizers of random weights, small enough for thousands of streams."""
    torch.manual_seed(0)
    codec = ConvNeXtCodec(ConvNeXtCodecConfig(
        name="soak", sample_rate=RATE, dim=8, num_blocks=1, vq_dim=4, num_codebooks=2, codebook_size=16
    ))  # fmt: skip
    units = MfccKMeans(MfccConfig(name="soak-units", num_units=12, hop_length=640))
    units.centroids.normal_()
    timeline = Timeline(codes=codec.identity.grid, units=units.identity.grid)
    model = AudioLM(
        d_model=16, nhead=2, num_layers=1, num_quantizers=2, codebook_size=16, num_units=12,
        units_per_period=timeline.units_per_period, frames_per_period=timeline.frames_per_period,
    )  # fmt: skip
    lengths = dict.fromkeys(model.stages(), 2.0)
    released = Released(model=model.eval(), timeline=timeline, acoustic=codec.eval(), semantic=units.eval(), trained_seconds=lengths)
    return Pipeline(released, engine="torch")


if __name__ == "__main__":
    main()
