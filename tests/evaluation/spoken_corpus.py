"""A corpus of three synthetic voices with audio, tokenized by nobody: what reports over recordings need of ``prepare.sh``'s output."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from tiny_pipeline import RATE

from valle.audio import write_wav
from valle.models.released import Released

PITCHES = {"low": 90.0, "middle": 140.0, "high": 210.0}
TILTS = {"low": 1.0, "middle": 0.7, "high": 1.4}


def speak(voice: str, seed: int, seconds: float = 4.0) -> np.ndarray:
    """Harmonics of the voice's pitch with its own tilt, in syllables that differ with ``seed``, between pauses; ``(T,)`` float32."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * PITCHES[voice] * np.cumsum(1 + 0.03 * np.sin(2 * np.pi * generator.uniform(1, 3) * time)) / RATE
    wav = sum(np.sin(k * phase + generator.uniform(0, 6)) / k ** TILTS[voice] for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * generator.uniform(2, 4) * time + generator.uniform(0, 6)), 0, 1)
    return (0.1 * wav * syllables + 1e-4 * generator.standard_normal(len(time))).astype(np.float32)


def write_corpus(folder: Path, released: Released, *, num_train: int = 4, num_test: int = 2, seconds: float = 4.0) -> Path:
    """``folder`` with ``cuts_{train,dev,test}.jsonl.gz``, their wavs and ``info.json``; so many utterances a voice."""
    folder.mkdir(parents=True)
    for start, part, count in ((0, "train", num_train), (100, "dev", 0), (200, "test", num_test)):
        with gzip.open(folder / f"cuts_{part}.jsonl.gz", "wt") as stream:
            for voice in PITCHES:
                for seed in range(start, start + count):
                    path = folder / f"{part}-{voice}-{seed}.wav"
                    write_wav(path, speak(voice, seed, seconds), RATE)
                    stream.write(json.dumps(_cut(path, voice, seconds).to_dict()) + "\n")
    info = {
        "timeline": released.timeline.to_dict(),
        "tokenizers": {
            "acoustic": released.acoustic.identity.to_dict(),
            "semantic": released.semantic.identity.to_dict() if released.semantic else None,
        },
        "statistics": {"train": {"hours": 3 * num_train * seconds / 3600}},
    }
    (folder / "info.json").write_text(json.dumps(info))
    return folder


def _cut(path: Path, voice: str, seconds: float) -> MonoCut:
    source = AudioSource(type="file", channels=[0], source=str(path))
    recording = Recording(id=path.stem, sources=[source], sampling_rate=RATE, num_samples=int(seconds * RATE), duration=seconds)
    said = SupervisionSegment(id=path.stem, recording_id=path.stem, start=0, duration=seconds, speaker=voice)
    return MonoCut(id=path.stem, start=0, duration=seconds, channel=0, recording=recording, supervisions=[said])
