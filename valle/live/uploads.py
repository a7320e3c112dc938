"""Files that clients send: decoded by processes that are few, limited, and killed when they take too long."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress

import numpy as np

from valle.audio import Waveform
from valle.live.decode_upload import RATES
from valle.live.protocol import ProtocolError

DECODE_SECONDS = 30.0  # by the clock
AT_ONCE = 2
KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


class UploadDecoder:
    """``AT_ONCE`` processes at once; others wait."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def decode(self, content: bytes, seconds: float) -> tuple[Waveform, int]:
        """The first ``seconds`` of a file -> mono ``(n,)`` and its rate in Hz; raises ``ProtocolError``."""
        async with self._places:
            answer = await _answer_of_process(content, seconds)
        head, _, samples = answer.partition(b"\n")
        try:
            said = json.loads(head)
            if "error" in said:
                raise ProtocolError("bad_prompt", str(said["error"]))
            return np.frombuffer(samples, "<f4").astype(np.float32), int(said["sample_rate"])
        except (ValueError, KeyError) as error:
            raise ProtocolError("bad_prompt", "expected a file that can be decoded, found one on which the decoder failed") from error


async def _answer_of_process(content: bytes, seconds: float) -> bytes:
    environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "valle.live.decode_upload", repr(seconds), env={**environment, "OPENBLAS_NUM_THREADS": "1"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DECODE_SECONDS):
            _, answer = await asyncio.gather(_write(process, content), _read(process, most=4096 + 4 * round(seconds * RATES[1])))
            await process.wait()
            return answer
    except TimeoutError:
        raise ProtocolError("bad_prompt", f"expected a file that is decoded within {DECODE_SECONDS:g} s, found a slower one") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _write(process: asyncio.subprocess.Process, content: bytes) -> None:
    assert process.stdin is not None
    with suppress(ConnectionError):  # it has died
        process.stdin.write(content)
        await process.stdin.drain()
    process.stdin.close()


async def _read(process: asyncio.subprocess.Process, *, most: int) -> bytes:
    """All of it, or where there is more than ``most`` bytes, nothing."""
    assert process.stdout is not None
    content = bytearray()
    while piece := await process.stdout.read(2**16):
        content += piece
        if len(content) > most:
            process.kill()
            return b""
    return bytes(content)
