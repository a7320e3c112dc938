#!/usr/bin/env python3
"""Peak memory of tokenizing a file of an hour, beside one of two minutes: ``bin/tokenizer.py encode`` and ``decode``.

  python -m benchmarks.long_audio        benchmarks/results/long_audio.json; five minutes on an idle core

The file is 16-bit stereo at 44.1 kHz, 635 MB an hour, so that reading and resampling count as well.  Encoders of HuBERT have
random weights in the size of ``egs/espeak``: memory does not depend on what they have learned.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from benchmarks.common import RESULTS, ROOT, Finished, figure, goal_lines, header, run_child, write_results
from benchmarks.memory import SAMPLES, gib, run_program

HOUR_GIB = 1.5
FLAT = 1.15  # times the peak of two minutes: only tokens are kept; of decoded codes the sound, 230 MB an hour
RATE = 44100
CODEC = "valle-16khz"
REACHES: dict[str, tuple[int | None, int | None]] = {"hubert, bounded attention": (32, 4), "hubert, unbounded attention": (None, None)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="seconds instead of an hour, for tests")
    parser.add_argument("--save", type=Path, help="only write the encoders, into this folder")
    parser.add_argument("--output", type=Path, default=RESULTS / "long_audio.json")
    options = parser.parse_args(arguments)
    if options.save is not None:
        save_encoders(options.save)
        return
    started = time.monotonic()
    results = header(["python -m benchmarks.long_audio", *(["--fast"] if options.fast else [])])
    with tempfile.TemporaryDirectory() as folder:
        save_in_another_process(Path(folder))
        tokenizers = {"mfcc-kmeans": "mfcc-kmeans", CODEC: CODEC, **{name: str(Path(folder) / name) for name in REACHES}}
        results.update(measure(Path(folder), tokenizers, seconds=[6, 36] if options.fast else [120, 3600]))
    results["wall_seconds"] = round(time.monotonic() - started, 1)
    write_results(options.output, results)
    print("\n".join([*goal_lines(results), f"written: {options.output}"]))


def measure(folder: Path, tokenizers: Mapping[str, str], *, seconds: Sequence[int]) -> dict[str, Any]:
    """Every tokenizer on a short and on a long file, and the bundled codec back again if it is among them."""
    peaks: dict[str, list[Finished]] = {}
    for length in seconds:
        path = write_recording(folder / f"{length}.wav", seconds=length)
        for name, tokenizer in tokenizers.items():
            output = folder / "tokens" / name
            run = run_program("tokenizer", "encode", "--tokenizer", tokenizer, "--audio", path, "--output-dir", output, cwd=folder)
            peaks.setdefault(name, []).append(run)
        if CODEC in tokenizers:
            codes = folder / "tokens" / CODEC / f"{length}.npy"
            run = run_program("tokenizer", "decode", "--codes", codes, "--output-dir", folder / "decoded", cwd=folder)
            peaks.setdefault(f"decoding of {CODEC}", []).append(run)
        path.unlink()
    return {
        name: {
            f"{seconds[0]} s gib": gib(short),
            f"{seconds[1]} s gib": gib(long, at_most=HOUR_GIB),
            "growth": figure([long.peak_bytes / short.peak_bytes], at_most=None if "decoding" in name else FLAT, means="of the peak"),
            "wall_seconds": [round(run.seconds, 1) for run in (short, long)],
        }
        for name, (short, long) in peaks.items()
    }


def write_recording(path: Path, *, seconds: float) -> Path:
    """Read speech, over and over."""
    samples = [soundfile.read(sample, dtype="float32") for sample in sorted(SAMPLES.glob("*.flac"))]
    speech = np.concatenate([soxr.resample(wav, rate, RATE) for wav, rate in samples])
    left = round(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, channels=2, subtype="PCM_16") as file:
        while left > 0:
            file.write(np.stack([speech[:left], 0.5 * speech[:left]], 1))
            left -= len(speech)
    return path


def save_in_another_process(folder: Path) -> None:
    """Torch in this one would count as every child's."""
    run_child([sys.executable, "-m", "benchmarks.long_audio", "--save", folder], cwd=ROOT)


def save_encoders(folder: Path) -> None:
    """Units of layer 4 of untrained encoders."""
    import torch

    from valle.tokenizers.hubert import HubertConfig, hubert_from_encoder
    from valle.tokenizers.registry import save_tokenizer
    from valle.tokenizers.speech_encoder import SpeechEncoder, SpeechEncoderConfig

    for name, (left, right) in REACHES.items():
        torch.manual_seed(0)
        tokenizer = hubert_from_encoder(SpeechEncoder(SpeechEncoderConfig(left_reach=left, right_reach=right)), HubertConfig(), layer=4)
        tokenizer.centroids.normal_()
        save_tokenizer(tokenizer, folder / name)


if __name__ == "__main__":
    main()
