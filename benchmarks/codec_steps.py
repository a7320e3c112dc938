#!/usr/bin/env python3
"""What a step of training a codec costs, by adversary: CPU seconds of one thread, 16 pieces of 1 s of noise.

python -m benchmarks.codec_steps        benchmarks/results/codec_steps.json; a minute and a half
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lhotse import CutSet, Recording

from benchmarks.common import RESULTS, ROOT, figure, header, write_results
from valle.audio import write_wav
from valle.training.codec_options import CodecOptions
from valle.training.codec_task import CodecTask
from valle.training.distributed import World
from valle.training.loop import Loop

SOUNDSTREAM = yaml.safe_load((ROOT / "egs" / "espeak" / "conf" / "soundstream.yaml").read_text(encoding="utf-8"))
VARIANTS: dict[str, dict[str, Any]] = {
    "ConvNeXt codec, no adversary": {},
    "with `--adversarial msstft`": {"adversarial": "msstft"},
    "with `--adversarial mpd`": {"adversarial": "mpd"},
    "with `--adversarial soundstream`": {"adversarial": "soundstream"},
    "with `--adversarial msstft --freeze-encoder true`": {"adversarial": "msstft", "freeze_encoder": True, "init_codec": "valle-16khz"},
    "`conf/soundstream.yaml`, no adversary": {**SOUNDSTREAM, "adversarial": "none"},
    "`conf/soundstream.yaml`": SOUNDSTREAM,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS / "codec_steps.json")
    parser.add_argument("--repeats", type=int, default=5, help="steps that are timed, after one to warm up")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {**header(["python -m benchmarks.codec_steps"]), "seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        manifest = _noise(Path(folder))
        for name, changes in VARIANTS.items():
            print(f"measuring: {name}", flush=True)
            results["seconds"][name] = {
                dtype: figure(_steps(Path(folder), manifest, dtype=dtype, repeats=options.repeats, **changes))
                for dtype in ("float32", "bfloat16")
            }
    write_results(options.output, results)
    print(f"written: {options.output}")


def _noise(folder: Path) -> Path:
    """A manifest of half a minute of noise: what a step costs does not depend on the sound."""
    path = folder / "noise.wav"
    write_wav(path, (0.1 * np.random.default_rng(0).standard_normal(16000 * 30)).astype(np.float32), 16000)
    manifest = folder / "cuts.jsonl.gz"
    CutSet.from_cuts([Recording.from_file(path).to_cut()]).to_file(manifest)
    return manifest


def _steps(folder: Path, manifest: Path, *, dtype: str, repeats: int, **changes: Any) -> list[float]:
    """CPU seconds of single steps of the trainer's own loop."""
    exp_dir = Path(tempfile.mkdtemp(dir=folder))
    usual = {
        "optimizer_name": "AdamW", "scheduler_name": "Eden", "base_lr": 0.001, "max_steps": 100, "max_minutes": 0.0,
        "quantizer_dropout": 0.3,
    }  # fmt: skip
    fixed = {
        "manifests": [manifest],
        "valid_manifest": manifest,
        "exp_dir": exp_dir,
        "dtype": dtype,
        "num_workers": 0,
        "num_threads": 1,
        "tensorboard": False,
    }
    options = CodecOptions(**{**changes, **usual, **fixed, "adversarial_start_step": 0})
    task = CodecTask(options)
    loop = Loop(task, options, World())
    seconds = []
    for number, batch in zip(range(repeats + 1), task.batches(epoch=1, skip=0, world=World()), strict=False):
        loop.progress.step += 1
        started = time.process_time()
        loop.train_step([batch])
        if number:
            seconds.append(time.process_time() - started)
    loop.recorder.close()
    return seconds


if __name__ == "__main__":
    main()
