#!/usr/bin/env python3
"""Send a recording to valle-serve as a microphone would, and play what comes while it comes.

  python3 docs/stream_file.py hello.wav > continued.wav
  python3 docs/stream_file.py hello.wav --seconds 20 --seed 3 | ffplay -nodisp -autoexit -

The prompt goes out in pieces of 50 ms, in the time that it lasts; a wav without a length goes to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import aiohttp

from valle.audio import read_audio
from valle.inference.sound_output import SoundOutput
from valle.live.protocol import Hello, Kind, pack_audio, unpack, unpack_audio

PIECE_SECONDS = 0.05


async def stream_file(options: argparse.Namespace) -> None:
    wav, rate = read_audio(options.file, duration=options.prompt_seconds)
    hello = Hello(
        protocol=1, sample_rate=rate, format="float32", model=options.model, prompt_seconds=options.prompt_seconds,
        max_seconds=options.seconds, seed=options.seed, token=os.environ.get("VALLE_TOKEN"),
    )  # fmt: skip
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{options.server}/v1/live") as socket:
        await socket.send_bytes(hello.message())
        await asyncio.gather(speak(socket, wav, rate), listen(socket))


async def speak(socket: aiohttp.ClientWebSocketResponse, wav, rate: int) -> None:
    size = round(PIECE_SECONDS * rate)
    for first in range(0, len(wav), size):
        await socket.send_bytes(pack_audio(wav[first : first + size], "float32"))
        await asyncio.sleep(PIECE_SECONDS)
    if not socket.closed:
        await socket.send_bytes(b'\x02{"type": "end"}')


async def listen(socket: aiohttp.ClientWebSocketResponse) -> None:
    output = None
    async for message in socket:
        kind = Kind(message.data[0])
        if kind is Kind.HELLO:
            output = SoundOutput(sys.stdout.buffer, "wav", unpack(message.data)["sample_rate"])
        elif kind is Kind.AUDIO and output is not None:
            output.write(unpack_audio(message.data, "float32"))
        elif kind is Kind.EVENT:
            sys.stderr.write(f"{unpack(message.data)}\n")
        elif kind is Kind.ERROR:
            raise SystemExit(unpack(message.data)["message"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--model", help="a name of /v1/models; the server's first if not given")
    parser.add_argument("--prompt-seconds", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=10.0, help="longest new audio")
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(stream_file(parser.parse_args()))


if __name__ == "__main__":
    main()
