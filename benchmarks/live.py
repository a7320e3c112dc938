#!/usr/bin/env python3
"""Live: how long a listener waits for the first audio after a prompt, the work of a second of new audio, and how many listeners fit.

  python -m benchmarks.live
  python -m benchmarks.live --model exp/released --name demo

Everything passes through a server on this machine.  Prompts come in pieces of 50 ms in the time that they last; the wait is that from a
prompt's last piece to the first new sample sent.  Listeners are added until one of them would hear a gap.  Takes 4 minutes a model.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import torch

from benchmarks.common import ROOT, goal_lines, header, merge_results
from valle.audio import Waveform, read_audio
from valle.live.models import ModelShelf
from valle.live.options import ServeOptions
from valle.live.protocol import Hello, Kind, pack_audio, unpack
from valle.live.serve import LiveServer, bound_socket

RESULTS = ROOT / "benchmarks" / "results"
SAMPLES = ROOT / "valle" / "assets" / "samples"
PIECE_SECONDS = 0.05
FIRST_AUDIO_MS, LATEST_AUDIO_MS, RTF = 200, 400, 0.6
PLAYER_SECONDS = 0.25  # of new audio that a player holds before it begins
AHEAD_SECONDS = 2.0  # of its playing, that a listener asks for beside others


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a released folder or a name on the hub; the bundled model if not given")
    parser.add_argument("--audio", type=Path, default=SAMPLES, help="a folder of recordings that prompts are taken from")
    parser.add_argument("--prompts", type=int, default=50, help="streams whose first audio is measured, one after another")
    parser.add_argument("--prompt-seconds", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=0.5, help="of new audio of each of them")
    parser.add_argument("--long-streams", type=int, default=3, help="longer streams, for the real-time factor")
    parser.add_argument("--long-seconds", type=float, default=8.0, help="of new audio of each of them, and of listeners at once")
    parser.add_argument("--chunk-seconds", type=float, default=0.1)
    parser.add_argument("--block-seconds", type=float, default=None)
    parser.add_argument("--engine", default="auto", choices=["auto", "torch", "native"])
    parser.add_argument("--listeners", type=int, default=8, help="listeners at once that are tried at most; 0 for none")
    parser.add_argument("--name", default="bundled", help="under which the results stand in the file; demo stands at its top")
    parser.add_argument("--output", type=Path, default=RESULTS / "live.json")
    options = parser.parse_args(arguments)
    results = header(["python -m benchmarks.live", *(["--model exp/released", f"--name {options.name}"] if options.model else [])])
    results["settings"] = {name: value for name, value in vars(options).items() if isinstance(value, int | float)}
    changed = {name: value for name, value in results["settings"].items() if value != parser.get_default(name)}
    results["command"] = " ".join([results["command"], *(f"--{name.replace('_', '-')} {value:g}" for name, value in changed.items())])
    torch.set_num_threads(1)  # as the server does
    shelf = ModelShelf.load([options.model] if options.model else [], device="cpu", dtype="float32", engine=options.engine)
    [pipeline] = shelf.values()
    prompts = list(prompts_of(options.audio, pipeline.sample_rate, seconds=options.prompt_seconds, count=options.prompts + 1))
    for part in (measure_alone, measure_together) if options.listeners else (measure_alone,):
        results.update(asyncio.run(part(shelf, prompts, options)))
        merge_results(options.output, results if options.name == "demo" else {options.name: results})
    print("\n".join([*goal_lines(results), f"written: {options.output}"]))


@dataclass
class Listened:
    """What one listener heard: when which seconds of sound came, and what the server said at the end."""

    arrivals: list[tuple[float, float]] = field(default_factory=list)
    done: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)

    @property
    def has_gap(self) -> bool:
        return not self.done or self.start_delay > PLAYER_SECONDS

    @property
    def start_delay(self) -> float:
        """Seconds that a player must wait after the first chunk so that it never runs dry."""
        return start_delay(self.arrivals) if self.arrivals else float("inf")


async def measure_alone(shelf: ModelShelf, prompts: Sequence[Waveform], options: argparse.Namespace) -> dict[str, Any]:
    """``first_audio_ms`` and ``rtf`` of one stream after another, by one core; a first stream warms up."""
    [pipeline] = shelf.values()
    with one_core():
        streams = [await listen_alone(shelf, wav, options, seed=number) for number, wav in enumerate(prompts)][1:]
        longer = [
            await listen_alone(shelf, wav, options, seed=number, seconds=options.long_seconds)
            for number, wav in enumerate(prompts[: options.long_streams])
        ]
    waited, rtf = [one.done["first_audio_ms"] for one in streams], float(np.median([one.done["rtf"] for one in longer]))
    buffers = [1000 * one.start_delay for one in [*streams, *longer]]
    median, latest = np.percentile(waited, [50, 95])
    return {
        "first_audio_ms": {"p50": figure_of(median, FIRST_AUDIO_MS), "p95": figure_of(latest, LATEST_AUDIO_MS)},
        "rtf": figure_of(rtf, RTF),
        "buffer_ms": {"p50": round(float(np.median(buffers)), 1), "p95": round(float(np.percentile(buffers, 95)), 1)},
        "streams": len(waited),
        "steps_taken_by": pipeline.steps_taken_by,
    }


async def measure_together(shelf: ModelShelf, prompts: Sequence[Waveform], options: argparse.Namespace) -> dict[str, Any]:
    """How many streams all cores can make at once, and how many listeners hear no gap."""
    fast = await measure_streams(shelf, prompts, options, guess=os.cpu_count() or 1)
    return {"streams_at_rtf_1": fast, "listeners": await measure_listeners(shelf, prompts, options, fast=fast)}


async def listen_alone(
    shelf: ModelShelf, wav: Waveform, options: argparse.Namespace, *, seed: int, seconds: float | None = None
) -> Listened:
    [heard] = await listen_together(shelf, [wav], options, places=1, first_seed=seed, ahead_seconds=None, seconds=seconds)
    return heard


async def measure_streams(shelf: ModelShelf, prompts: Sequence[Waveform], options: argparse.Namespace, *, guess: int) -> int:
    """The most streams at once, each as fast as it can be made, of which none takes longer than its sound."""

    async def is_real_time(number: int) -> bool:
        chosen = [prompts[place % len(prompts)] for place in range(number)]
        heard = await listen_together(
            shelf, chosen, options, places=number, first_seed=0, ahead_seconds=None, seconds=options.long_seconds
        )  # fmt: skip
        return all(one.done and one.done["rtf"] <= 1 for one in heard)

    number = min(max(1, guess), options.listeners)
    if await is_real_time(number):
        while number < options.listeners and await is_real_time(number + 1):
            number += 1
        return number
    while number > 1 and not await is_real_time(number - 1):
        number -= 1
    return number - 1


async def measure_listeners(
    shelf: ModelShelf, prompts: Sequence[Waveform], options: argparse.Namespace, *, fast: int
) -> dict[str, Any]:
    """``held``: the most listeners at once, each two seconds ahead of its playing at most, of whom none heard a gap.

    ``beyond`` is what the next one gets where there are so many places; ``one_place_more``, what they hear where there is one more.
    ``fast`` streams at once are in real time, so the search begins below that.
    """
    held, waits, beyond, more = 0, list[float](), {}, {}
    number = first = max(1, fast - 1)
    while 0 < number <= options.listeners:
        chosen = [prompts[place % len(prompts)] for place in range(number + 1)]
        *heard, late = await listen_together(
            shelf, chosen, options, places=number, first_seed=0, ahead_seconds=AHEAD_SECONDS, seconds=options.long_seconds
        )
        if any(one.has_gap for one in heard):
            more = {"listeners": number, "with_a_gap": sum(one.has_gap for one in heard),
                    "buffer_ms": round(1000 * max(one.start_delay for one in heard), 1)}  # fmt: skip
            if number > first or held:
                break
            number = first = number - 1
            continue
        held, beyond, waits = number, late.error, [one.done["first_audio_ms"] for one in heard]
        if more:
            break
        number += 1
    return {
        "held": held, "player_ms": 1000 * PLAYER_SECONDS, "first_audio_ms": round(float(np.median(waits)), 1) if waits else None,
        "beyond": {name: beyond[name] for name in ("code", "retry_after") if name in beyond}, "one_place_more": more,
    }  # fmt: skip


async def listen_together(
    shelf: ModelShelf,
    prompts: Sequence[Waveform],
    options: argparse.Namespace,
    *,
    places: int,
    first_seed: int,
    ahead_seconds: float | None,
    seconds: float | None = None,
) -> list[Listened]:
    """Listeners who come a third of a second after each other, of a server with so many ``places`` and no queue."""
    seconds = options.seconds if seconds is None else seconds
    server = LiveServer(ServeOptions(port=0, places=places, queue=0, longest_seconds=seconds), shelf)
    rate = next(iter(shelf.values())).sample_rate
    with bound_socket("127.0.0.1", 0) as listener:
        address = await server.start(listener)
        async with aiohttp.ClientSession() as client:
            heard = [
                listen(client, address, wav, after=number / 3, hello=Hello(
                    protocol=1, sample_rate=rate, prompt_seconds=options.prompt_seconds, max_seconds=seconds,
                    min_seconds=seconds, seed=first_seed + number, chunk_seconds=options.chunk_seconds,
                    block_seconds=options.block_seconds, ahead_seconds=ahead_seconds,
                ))
                for number, wav in enumerate(prompts)
            ]  # fmt: skip
            results = await asyncio.gather(*heard)
        await server.stop(grace_seconds=0)
    return results


async def listen(client: aiohttp.ClientSession, address: str, wav: Waveform, *, after: float, hello: Hello) -> Listened:
    """One listener, who speaks ``wav`` in the time that it lasts."""
    await asyncio.sleep(after)
    heard = Listened()
    async with client.ws_connect(f"{address}/v1/live") as socket:
        await socket.send_bytes(hello.message())
        speaking = asyncio.create_task(speak(socket, wav, hello))
        async for message in socket:
            content = message.data
            if content[0] == Kind.AUDIO:
                heard.arrivals.append((time.perf_counter(), (len(content) - 1) / 2 / hello.sample_rate))
            elif content[0] == Kind.EVENT and (event := unpack(content))["type"] == "done":
                heard.done = event
            elif content[0] == Kind.ERROR:
                heard.error = unpack(content)
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    return heard


async def speak(socket: aiohttp.ClientWebSocketResponse, wav: Waveform, hello: Hello) -> None:
    started = time.monotonic()
    for number, piece in enumerate(pieces(wav, round(PIECE_SECONDS * hello.sample_rate)), 1):
        await asyncio.sleep(started + number * PIECE_SECONDS - time.monotonic())
        await socket.send_bytes(pack_audio(piece, "pcm16"))
    await socket.send_bytes(b'\x02{"type": "end"}')


def start_delay(arrivals: Sequence[tuple[float, float]]) -> float:
    """Seconds that a player must wait after the first of ``arrivals`` (when, seconds of sound) so that it never runs dry."""
    first, played, wait = arrivals[0][0], 0.0, 0.0
    for when, seconds in arrivals:
        wait = max(wait, when - first - played)
        played += seconds
    return wait


@contextmanager
def one_core() -> Iterator[None]:
    """This thread and those that it starts take one core, where the system lets choose."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def figure_of(value: float, at_most: float) -> dict[str, Any]:
    return {"value": round(float(value), 3), "goal": f"at most {at_most:g}", "met": bool(value <= at_most)}


def prompts_of(folder: Path, rate: int, *, seconds: float, count: int) -> Iterator[Waveform]:
    """The beginnings of the folder's recordings, round and round, each time a tenth of a second later."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".wav", ".flac"))
    for number in range(count):
        offset = 0.1 * (number // len(files))
        yield read_audio(files[number % len(files)], sample_rate=rate, offset=offset, duration=seconds)[0]


def pieces(wav: Waveform, size: int) -> Iterator[Waveform]:
    for first in range(0, len(wav), size):
        yield wav[first : first + size]


if __name__ == "__main__":
    main()
