#!/usr/bin/env python3
"""A day of listeners in short: streams of a tiny model, some cancelled, broken or slow; memory and descriptors must stay flat.

  python -m benchmarks.live_soak
  python -m benchmarks.live_soak --model exp/released --minutes 60 --at-once 1

All traffic is of this machine with itself.  The tiny model has random weights, so a stream takes some milliseconds; listeners of another
model hear it in the time that it lasts.  Server and listeners are one process, whose memory is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import numpy as np
import torch

from benchmarks.common import ROOT, header, merge_results
from benchmarks.turns import Turns
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
STREAMS = 20_000
GROWTH_MIB, SAMPLES = 32.0, 20  # by which memory may grow after the first quarter; how often it is looked at


@dataclass(frozen=True)
class Traffic:
    """What listeners ask for, seconds."""

    prompt_seconds: float = 0.5
    whole_seconds: float = 0.3  # new audio of those who hear all of it
    long_seconds: float = 20.0  # of those who leave before
    ahead_seconds: float | None = None  # as of a hello
    level: Literal["none"] | None = "none"


IN_TIME = Traffic(prompt_seconds=3.0, whole_seconds=10.0, ahead_seconds=1.0, level=None)  # with a real model: as a person listens


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--model", help="a released folder whose listeners hear it in the time that it lasts; a tiny model if not given")
    parser.add_argument("--minutes", type=float, default=None, help="end after so long, whatever the number of streams")
    parser.add_argument("--at-once", type=int, default=6, help="listeners at once, for 2 places and 8 in the queue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lock", type=Path, help="a file to lock while listeners come: on a machine that others use, they wait in between")
    parser.add_argument("--turn-seconds", type=float, default=540.0, help="of a turn with the lock")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "live.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    name = "hour" if options.model else "short"
    results = header([command(options)])
    pipeline = tiny_pipeline()
    if options.model:
        [pipeline] = ModelShelf.load([options.model], device="cpu", dtype="float32", engine="auto").values()
    threads, files = threading.active_count(), descriptors()
    results.update(asyncio.run(soak(pipeline, IN_TIME if options.model else Traffic(), options)))
    results["left"] |= {"threads": threading.active_count() - threads, "descriptors": descriptors() - files}
    merge_soak(options.output, name, results)
    print(f"{results['memory_mib']}, {results['left']}; written: {options.output}")


def command(options: argparse.Namespace) -> str:
    """What was asked for, as it would be asked for again."""
    model = " --model exp/released" if options.model else ""
    streams = f" --streams {options.streams}" if options.streams != STREAMS else ""
    minutes = f" --minutes {options.minutes:g}" if options.minutes else ""
    return f"python -m benchmarks.live_soak{model}{streams}{minutes} --at-once {options.at_once}"


def merge_soak(path: Path, name: str, results: dict[str, Any]) -> None:
    """In place of what the file holds of such a soak, and beside the other one and what ``benchmarks.live`` wrote."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    soaks = {**before.get("soak", {}), name: results}
    merge_results(
        path, {"memory_mib": {key: value for kind, soak in soaks.items() for key, value in memory_of(kind, soak).items()}, "soak": soaks}
    )


def memory_of(kind: str, soak: dict[str, Any]) -> dict[str, float]:
    """Memory at the start and after so many short streams, or after an hour."""
    minutes = soak["seconds_with_listeners"] / 60
    if kind == "short":
        start, after = "start", f"after_{soak['streams']}"
    else:
        start, after = "start_of_the_hour", "after_1h" if minutes >= 60 else f"after_{minutes:.0f}_minutes"
    return {start: soak["memory_mib"]["start"], after: soak["memory_mib"]["end"]}


async def soak(pipeline: Pipeline, traffic: Traffic, options: argparse.Namespace) -> dict[str, Any]:
    """Every listener, ``at_once`` of them at a time -> what was counted, and what was left."""
    logged = _Warnings()
    logging.getLogger().addHandler(logged)
    server = LiveServer(ServeOptions(port=0, places=2, queue=8), ModelShelf({"soak": pipeline}))
    draw, told, memory, started = random.Random(options.seed), Counter[str](), Memory(), time.monotonic()
    with bound_socket("127.0.0.1", 0) as listener:
        address = await server.start(listener)
        async with aiohttp.ClientSession() as client:
            async with Turns(options.at_once, lock=options.lock, turn_seconds=options.turn_seconds) as turns, asyncio.TaskGroup() as group:
                for number in range(options.streams):
                    await turns.take()
                    kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
                    task = group.create_task(listen(client, address, kind, traffic, seed=draw.randrange(2**32)))
                    task.add_done_callback(lambda done: (told.update([done.result()]), turns.give()))
                    share = max(number / options.streams, turns.worked / (60 * options.minutes) if options.minutes else 0)
                    memory.look(share)
                    if share >= 1:
                        break
        while server.service.handlers:
            await asyncio.sleep(0.05)
        left = {"handlers": len(server.service.handlers), "active": len(server.service.pool.active)}
        await server.stop(grace_seconds=0)
    logging.getLogger().removeHandler(logged)
    left |= {"tasks": len(await tasks_left()), "warnings": len(logged.lines)}
    return {
        "streams": sum(told.values()), "seconds": round(time.monotonic() - started, 1), "seconds_with_listeners": round(turns.worked, 1),
        "outcomes": dict(sorted(told.items())), **memory.figures(), "left": left, "warnings": logged.lines[:5],
    }  # fmt: skip


async def tasks_left(*, patience: float = 5.0) -> list[str]:
    """What runs beside the caller and does not end by itself within ``patience`` seconds, as cancelled and closing tasks do."""
    until = time.monotonic() + patience
    while (others := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < until:
        await asyncio.wait(others, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
    return [str(task) for task in others]


class Memory:
    """Resident memory of this process, which is server and listeners, at even shares of the work."""

    def __init__(self) -> None:
        self.samples, self._next = [resident_mib()], 0.0

    def look(self, share: float) -> None:
        if share >= self._next:
            self.samples.append(resident_mib())
            self._next += 1 / SAMPLES

    def figures(self) -> dict[str, Any]:
        """``settled`` is after a quarter of the work."""
        end, settled = resident_mib(), self.samples[len(self.samples) // 4]
        memory = {"start": self.samples[0], "settled": settled, "end": end, "most": max(self.samples), "samples": self.samples}
        return {"memory_mib": memory, "flat": bool(end - settled <= GROWTH_MIB)}


async def listen(client: aiohttp.ClientSession, address: str, kind: str, traffic: Traffic, *, seed: int) -> str:
    """One listener of a kind -> what came of it."""
    draw = random.Random(seed)
    seconds = traffic.long_seconds if kind in ("stop", "abort", "close") else traffic.whole_seconds
    hello = Hello(
        protocol=1, sample_rate=RATE, prompt_seconds=traffic.prompt_seconds, max_seconds=seconds, seed=draw.randrange(2**32),
        level=traffic.level, ahead_seconds=traffic.ahead_seconds,
    )  # fmt: skip
    try:
        async with client.ws_connect(f"{address}/v1/live") as socket:
            await socket.send_bytes(hello.message())
            if kind == "broken":
                await socket.send_bytes(draw.choice([b"", b"\x09", b"\x01\x00", b"\x02{", b"\x00{}", bytes(draw.randbytes(40))]))
            for piece in np.array_split(noise(seed, traffic.prompt_seconds), draw.randint(1, 20)):
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


def noise(seed: int, seconds: float) -> Waveform:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


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
