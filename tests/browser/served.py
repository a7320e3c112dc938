"""The server as a person starts it, and a page whose errors and requests are noted."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from valle.audio import Waveform

ROOT = Path(__file__).parents[2]
FLAGS = (  # of Chromium
    "--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--disable-background-networking", "--no-first-run",
)  # fmt: skip
LOOK_SECONDS, WAIT_SECONDS = 2.0, 30.0  # until it is looked whether something went wrong, and until nothing is awaited any more
HERE = frozenset({"127.0.0.1", "localhost", "elsewhere.test"})
SAMPLES_AS_TEXT = """samples => new Promise(done => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.split(",")[1]);
  reader.readAsDataURL(new Blob([samples]));
})"""
# What leaves the player: the page's own recorder, behind it.
LISTEN = """async () => {
  const { Player } = await import("/player.js");
  const open = Player.open;
  window.heard = [];
  Player.open = async rate => {
    const player = await open(rate);
    await player.context.audioWorklet.addModule("/capture-worklet.js");
    const recorder = new AudioWorkletNode(player.context, "capture", { numberOfOutputs: 0 });
    recorder.port.onmessage = ({ data }) => window.heard.push(data);
    player.node.connect(recorder);
    return player;
  };
}"""


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def serve(models: Mapping[str, Path], *flags: str) -> Iterator[Served]:
    """``bin/serve.py`` on a free port, ended as by Ctrl-C."""
    named = [f"{name}={folder}" for name, folder in models.items()]
    command = [sys.executable, "valle/bin/serve.py", "--engine", "torch", "--port", "0", *flags, *(["--model", *named] if named else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+", said)
        assert found, f"expected the address of the server, found {said!r}"
        yield Served(found[0], process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Watched:
    """A page under test."""

    page: Any
    errors: list[str] = field(default_factory=list)
    uncaught: list[str] = field(default_factory=list)  # of these, what no code of the page's took care of
    hosts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(30_000)
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self._note_uncaught(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("websocket", lambda socket: self._note(socket.url))

    def _note_uncaught(self, error: str) -> None:
        self.errors.append(error)
        self.uncaught.append(error)

    def _note(self, url: str) -> None:
        if urlsplit(url).scheme not in ("blob", "data"):
            self.hosts.add(urlsplit(url).hostname or "")

    def open(self, url: str, *, model: str | None = None, seconds: float = 2, seed: int = 1) -> Any:
        """The page, ready, with these settings -> Playwright's page."""
        self.page.goto(url)
        self.wait("idle")
        if model is not None:
            self.page.select_option("#model", model)
        self.page.fill("#seconds", str(seconds))
        self.page.fill("#seed", str(seed))
        return self.page

    def wait(self, *states: str) -> None:
        """Until the page is in one of them; fails soon where the page threw an error, or says one and stays idle."""
        wanted, until = ", ".join(f"body[data-state={state}]" for state in states), time.monotonic() + WAIT_SECONDS
        while not self._is_there(wanted):
            state, said = self.page.get_attribute("body", "data-state"), self.page.inner_text("#error")
            assert not self.uncaught, f"waiting for {states}, the page threw {self.uncaught}"
            assert state != "idle" or not said, f"waiting for {states}, the page is idle and says {said!r}"
            assert time.monotonic() < until, f"expected {states}, found the page {state} for {WAIT_SECONDS:g} s, saying {said!r}"

    def _is_there(self, selector: str) -> bool:
        """Within ``LOOK_SECONDS``."""
        from playwright.sync_api import TimeoutError as NotThere

        try:
            self.page.wait_for_selector(selector, timeout=1000 * LOOK_SECONDS)
        except NotThere:
            return False
        return True

    def listen(self) -> None:
        """Record from now on what leaves the player."""
        self.page.evaluate(LISTEN)

    @property
    def heard(self) -> Waveform:
        """What left the player, without the silence around it."""
        self.page.wait_for_timeout(100)  # the recorder's last block
        sound = self.samples("new Float32Array(await new Blob(window.heard).arrayBuffer())")
        loud = np.flatnonzero(sound)
        return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:0]

    def forget(self) -> None:
        """Record what leaves the player anew."""
        self.page.wait_for_timeout(100)
        self.page.evaluate("window.heard.length = 0")

    def samples(self, expression: str) -> Waveform:
        """A Float32Array of the page's, ``(T,)``; ``app`` is the page's own."""
        return np.frombuffer(base64.b64decode(self._value(f"({SAMPLES_AS_TEXT})({expression})")), "<f4").copy()

    def number(self, expression: str) -> float:
        return self._value(expression)

    def _value(self, expression: str) -> Any:
        return self.page.evaluate(f'async () => {{ const {{ app }} = await import("/app.js"); return {expression}; }}')

    def assert_nothing_went_wrong(self) -> None:
        assert not self.errors, self.errors
        assert self.hosts <= HERE, f"the page asked {self.hosts - HERE}"
