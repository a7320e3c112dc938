"""Stage 3 and the bundled codec: seconds of audio a second of work."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import figure
from valle.audio import read_audio
from valle.tokenizers.base import AcousticTokenizer
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, load_acoustic
from valle.tokenizing.tokenize_cuts import TokenizeConfig, tokenize_cuts

SAMPLES = Path(__file__).resolve().parents[1] / "valle" / "assets" / "samples"


def bench_stage_3(folder: Path, *, repeats: int) -> dict[str, Any]:
    """Both bundled tokenizers over the corpus in ``folder``, from reading the audio to the last manifest, on two threads."""
    rates = []
    seconds = 0.0
    for _ in range(repeats):
        output = folder / "data/tokenized_again"
        shutil.rmtree(output, ignore_errors=True)
        config = TokenizeConfig(manifest_dir=folder / "data/manifests", tokenizer_dir=folder / "data/tokenizers", output_dir=output)
        started = time.perf_counter()
        parts = tokenize_cuts(config)
        seconds = sum(part.seconds for part in parts.values())
        rates.append(seconds / (time.perf_counter() - started))
    shutil.rmtree(output)
    return {"audio_seconds": round(seconds, 1), "threads": config.num_workers, "times_real_time": figure(rates, at_least=150.0, digits=1)}


def bench_codec(*, seconds: float = 10.0, repeats: int = 15) -> dict[str, Any]:
    """The bundled codec on one thread, one recording of ``seconds`` at a time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        codec = load_acoustic(BUNDLED_ACOUSTIC)
        speech = np.concatenate([read_audio(path, sample_rate=codec.sample_rate)[0] for path in sorted(SAMPLES.glob("*.flac"))])
        wav = torch.from_numpy(np.resize(speech, round(seconds * codec.sample_rate)))[None]
        encoding, decoding = ([1 / value for value in values] for values in seconds_of_work(codec, wav, repeats=repeats))
    finally:
        torch.set_num_threads(before)
    return {
        "audio_seconds": seconds,
        "threads": 1,
        "encode_times_real_time": figure(encoding, at_least=50.0, digits=1),
        "decode_times_real_time": figure(decoding, at_least=50.0, digits=1),
    }


def seconds_of_work(codec: AcousticTokenizer, wav: torch.Tensor, *, repeats: int) -> tuple[list[float], list[float]]:
    """Encoding and decoding ``wav (1, T)`` by all codebooks, in seconds a second of audio, after a first time that does not count."""
    seconds = wav.shape[1] / codec.sample_rate
    encoding, decoding = [], []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        codes, lengths = codec.encode(wav, torch.tensor([wav.shape[1]]))
        between = time.perf_counter()
        codec.decode(codes, lengths)
        encoding.append((between - started) / seconds)
        decoding.append((time.perf_counter() - between) / seconds)
    return encoding[1:], decoding[1:]
