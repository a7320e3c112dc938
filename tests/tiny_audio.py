"""Small recordings made on the spot: a voice-like tone with noise, that no two seeds share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray


def sound(seconds: float, *, rate: int = 16000, seed: int = 0) -> NDArray[np.float32]:
    """A gliding tone with harmonics in bursts, and some noise, ``(T,)``."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 250) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 6)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    wav: NDArray[np.float32] = (0.2 * tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)
    return wav


def write_sound(path: Path, seconds: float, *, rate: int = 16000, seed: int = 0, **options: str) -> Path:
    """:func:`sound` as a file of any format that ``soundfile`` writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(seconds, rate=rate, seed=seed), rate, **options)
    return path


def write_librispeech(folder: Path, utterances: dict[str, float]) -> Path:
    """A folder of LibriSpeech's layout: ``{"PART/SPEAKER-CHAPTER-NUMBER": seconds}``."""
    for seed, (name, seconds) in enumerate(utterances.items()):
        part, identity = name.split("/")
        speaker, chapter, _ = identity.split("-")
        place = folder / part / speaker / chapter
        write_sound(place / f"{identity}.flac", seconds, seed=seed)
        with (place / f"{speaker}-{chapter}.trans.txt").open("a") as lines:
            lines.write(f"{identity} WORDS OF {identity}\n")
    return folder
