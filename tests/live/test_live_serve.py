"""The program: one line where it cannot start, and an end that lets finish what plays."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from tiny_live import endless_pipeline, hear, run
from tiny_pipeline import RATE, lean_to_end, recording, tiny_released

from valle.errors import UserError
from valle.live.models import ModelShelf
from valle.live.options import ServeOptions
from valle.live.protocol import Hello, pack_audio
from valle.live.serve import LiveServer, bound_socket, serve, serve_until_signal, welcome
from valle.models.released import save_released

ROOT = Path(__file__).parents[2]
PIPELINE = endless_pipeline()
LISTENS = re.compile(r"(http://127\.0\.0\.1:\d+): tiny; ")


async def listen_while_stopped(*signals: signal.Signals, seconds: float) -> tuple[list[str], object]:
    """What the server says on the terminal, and what a listener hears whose stream is playing when the signals come."""
    said, loop = list[str](), asyncio.get_running_loop()
    server = LiveServer(ServeOptions(port=0, places=1), ModelShelf({"tiny": PIPELINE}))
    asked = Hello(protocol=1, sample_rate=RATE, format="float32", prompt_seconds=0.5, max_seconds=seconds, ahead_seconds=0.5)
    with bound_socket("127.0.0.1", 0) as listener:
        serving = loop.create_task(serve_until_signal(server, listener, said.append))
        while not said:
            await asyncio.sleep(0.01)
        address = LISTENS.match(said[0])[1]  # type: ignore[index]
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{address}/v1/live") as web_socket:
            await web_socket.send_bytes(asked.message())
            await web_socket.send_bytes(pack_audio(recording(0.5), "float32"))
            heard = await hear(web_socket, "float32", until="audio")
            for number in signals:
                os.kill(os.getpid(), number)
                await asyncio.sleep(0.1)
            with pytest.raises(aiohttp.ClientConnectionError):
                async with aiohttp.ClientSession() as other:
                    await other.get(f"{address}/health")
            heard = await hear(web_socket, "float32", heard)
        await serving
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
    return said, heard


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_finish_what_plays(number: signal.Signals) -> None:
    async def work() -> None:
        said, heard = await listen_while_stopped(number, seconds=2)
        assert said[1].startswith("stopping: what plays has 60 s to end")
        assert len(heard.wav) == 2 * RATE and heard.order[-1] == "done" and heard.close_code == 1000  # type: ignore[attr-defined]

    run(work())


def test_a_second_stop_ends_at_once_and_the_listener_is_told() -> None:
    async def work() -> None:
        _, heard = await listen_while_stopped(signal.SIGINT, signal.SIGINT, seconds=100)
        assert heard.error["code"] == "stopping" and heard.close_code == 1001  # type: ignore[attr-defined]

    run(work())


def test_the_program_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    save_released(lean_to_end(tiny_released(), -1e4), tmp_path)
    words = [sys.executable, str(ROOT / "valle" / "bin" / "serve.py"), "--model", f"tiny={tmp_path}", "--port", "0", "--engine", "torch"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert LISTENS.match(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.communicate() == ("", "") and process.returncode == 0


def test_a_port_that_is_in_use_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is in use; stop what uses it, or give another --port"):
            serve(ServeOptions(port=port, model=[str(tmp_path / "missing")]), say=print)


def test_a_model_that_is_missing_or_named_twice_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        serve(ServeOptions(port=0, model=[str(tmp_path / "missing")]), say=print)
    save_released(tiny_released(), tmp_path / "tiny")
    with pytest.raises(UserError, match="found two of tiny; write --model OTHER-NAME="):
        serve(ServeOptions(port=0, model=[str(tmp_path / "tiny")] * 2, engine="torch"), say=print)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "voice.example.org"])
def test_an_address_that_others_reach_needs_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"expected --token-file with --host {host}, which others can reach"):
        ServeOptions(host=host)
    (tmp_path / "token").write_text("a-long-and-secret-word\n")
    options = ServeOptions(host=host, token_file=tmp_path / "token")
    assert options.read_token() == "a-long-and-secret-word"
    assert "no microphone over plain http" in welcome(options, "http://...", {})[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_this_machines_own_addresses_need_none(host: str) -> None:
    assert ServeOptions(host=host).read_token() is None and len(welcome(ServeOptions(host=host), "http://...", {})) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"short", b"\xff" * 40, b"with a space in it, twice", b""])
def test_a_token_that_could_be_guessed_or_not_be_sent_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(UserError, match="token"):
        ServeOptions(token_file=tmp_path / "token").read_token()


def test_an_address_that_is_none_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match="expected an address for --host"):
        bound_socket("no.such.host.invalid", 0)
