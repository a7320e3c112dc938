"""Prompts and new audio on disk, where ``--save`` says so; nothing else of the server writes a voice anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from valle.audio import Waveform, wav_bytes


def save_stream(folder: Path, prompt: Waveform, chunks: Sequence[Waveform], sample_rate: int) -> Path:
    """Prompt ``(T,)`` and new audio as one wav of a name that is not taken -> its path."""
    content = wav_bytes(np.concatenate([prompt, *chunks]), sample_rate)
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        path = folder / f"{now}-{number}.wav"
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            continue
        return path
    raise AssertionError("there is always another number")
