"""The server as a person starts it, and a page whose errors and requests are noted."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
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
    hosts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(30_000)
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("websocket", lambda socket: self._note(socket.url))

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
        """Until the page is in one of them."""
        self.page.wait_for_selector(", ".join(f"body[data-state={state}]" for state in states))

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
