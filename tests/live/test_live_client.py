"""The clients of the documents, against a server."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tiny_live import endless_pipeline, run, tiny_server
from tiny_pipeline import RATE, recording

from valle.audio import write_wav
from valle.inference.continuation import ContinueSettings

DOCS = Path(__file__).parents[2] / "docs"
PIPELINE = endless_pipeline()


def test_the_client_of_twenty_lines_hears_the_offline_continuation(tmp_path: Path) -> None:
    [code] = [block for block in re.findall(r"```python\n(.*?)```", (DOCS / "live.md").read_text(), re.S) if "ws_connect" in block]
    assert len(code.splitlines()) <= 22
    names: dict[str, Any] = {}
    exec(code, names)
    write_wav(tmp_path / "hello.wav", recording(1), RATE)
    asked = ContinueSettings(max_seconds=0.5, level="none", block_seconds=0.2)
    [offline] = PIPELINE.continue_audio(recording(1), RATE, seed=4, settings=asked)

    async def work() -> None:
        async with tiny_server(PIPELINE) as there:
            wanted = {"max_seconds": 0.5, "level": "none", "block_seconds": 0.2, "seed": 4}
            new = await names["continue_file"](tmp_path / "hello.wav", there.address, **wanted)
            assert np.allclose(new, offline.wav[offline.prompt_samples :], atol=1e-5)

    run(work())


def test_the_example_streams_a_file_and_writes_a_wav(tmp_path: Path) -> None:
    write_wav(tmp_path / "hello.wav", recording(1), RATE)

    async def work() -> None:
        async with tiny_server(PIPELINE) as there:
            flags = ["--server", there.address, "--prompt-seconds", "0.5", "--seconds", "0.5"]
            program = await asyncio.create_subprocess_exec(
                sys.executable, DOCS / "stream_file.py", tmp_path / "hello.wav", *flags, stdout=asyncio.subprocess.PIPE
            )
            content, _ = await program.communicate()
            assert program.returncode == 0
            samples, rate = soundfile.read(io.BytesIO(content[:44] + content[44:]), dtype="float32")
            assert rate == RATE and len(samples) == round(0.5 * RATE)

    run(work())
