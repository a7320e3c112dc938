#!/usr/bin/env python3
"""Three unit sequences at equal time: a unit a frame, runs with durations, byte pairs; tokens and bits a second of audio.

  python -m benchmarks.unit_sequences --manifest-dir egs/espeak/data/tokenized --minutes 4

Each trains a small semantic stage by itself, through the trainer's own loop with the clock and the schedule set to processor
time of one thread, so that other programs on the machine change nothing, and is measured on all dev cuts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, header, run_child, write_results
from valle.data.fit_unit_bpe import UnitBpeOptions, fit
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World
from valle.training.loop import Loop
from valle.training.options import AudioLMOptions
from valle.training.train import summarise

SEQUENCES = ("frames", "runs", "bpe")
MEASURED = ("valid_nll", "train_nll", "tokens_per_second", "bits_per_second", "unigram_bits_per_second")
SMALL: dict[str, Any] = {
    "decoder_dim": 128, "nhead": 4, "num_decoder_layers": 3, "dim_feedforward": 416, "dropout": 0.0, "semantic_seconds": 12.0,
    "max_duration": 100.0, "optimizer_name": "AdamW", "scheduler_name": "cosine", "base_lr": 0.003, "warmup_steps": 50,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest-dir", type=Path, required=True, help="data/tokenized of a recipe")
    parser.add_argument("--minutes", type=float, default=4.0, help="of processor time, each")
    parser.add_argument("--vocab-size", type=int, default=1000, help="of the byte pairs")
    parser.add_argument("--output", type=Path, default=RESULTS / "unit_sequences.json")
    parser.add_argument(
        "--only", choices=SEQUENCES, help="train one in this process and write its row alone; what the benchmark does thrice"
    )
    options = parser.parse_args(arguments)
    if options.only:
        row = train(options.only, options.manifest_dir, options.output.parent, minutes=options.minutes, vocab_size=options.vocab_size)
        options.output.write_text(json.dumps(row), encoding="utf-8")
        return
    manifests = options.manifest_dir.resolve()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(SEQUENCES)) as pool:

        def run(name: str) -> dict[str, Any]:
            output = Path(scratch) / f"{name}.json"
            command = [sys.executable, "-P", "-m", "benchmarks.unit_sequences", "--only", name, "--manifest-dir", manifests]
            sizes = ["--minutes", f"{options.minutes:g}", "--vocab-size", str(options.vocab_size), "--output", output]
            run_child([*command, *sizes], cwd=manifests.parents[1], environment={"OMP_NUM_THREADS": "1"})
            row: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
            return row

        rows = dict(zip(SEQUENCES, pool.map(run, SEQUENCES), strict=True))
    command = ["python -m benchmarks.unit_sequences --manifest-dir", str(options.manifest_dir), "--minutes", f"{options.minutes:g}"]
    if options.vocab_size != parser.get_default("vocab_size"):
        command.append(f"--vocab-size {options.vocab_size}")
    info = json.loads((manifests / "info.json").read_text(encoding="utf-8"))["tokenizers"]["semantic"]
    about = {
        "tokenizer": info["name"], "num_units": info["codebook_size"], "unit_rate": info["sample_rate"] / info["hop_length"],
        "vocab_size": options.vocab_size, "minutes_each": options.minutes,
    }  # fmt: skip
    write_results(options.output, {**header(command), **about, "sequences": rows})
    print(f"written: {options.output}")


def train(name: str, manifest_dir: Path, work: Path, *, minutes: float, vocab_size: int, **changes: Any) -> dict[str, Any]:
    """One run in this process, from the recipe's folder, from which manifests name their arrays -> what it scores on dev."""
    started, before = time.process_time(), Path.cwd()
    os.chdir(manifest_dir.resolve().parents[1])
    try:
        if name == "bpe":
            fit(UnitBpeOptions(manifest_dir=manifest_dir, output=work / "unit_bpe.json", vocab_size=vocab_size))
        fixed: dict[str, Any] = {
            "manifest_dir": manifest_dir, "exp_dir": work / name, "train_stage": "semantic", "unit_sequence": name,
            "unit_bpe": work / "unit_bpe.json", "max_minutes": minutes, "num_epochs": 100000, "valid_max_cuts": 1000,
            "valid_interval": 10**9, "epoch_ends": False, "save_every_n": 0, "num_workers": 0, "num_threads": 1, "dtype": "float32",
            "device": "cpu", "tensorboard": False,
        }  # fmt: skip
        options = AudioLMOptions(**{**SMALL, **fixed, **changes})
        task = AudioLMTask(options)
        loop = Loop(task, options, World(), now=time.process_time)
        loop.run()
        summary = summarise(task, train=loop.evaluate(of_train=True), valid=loop.validate())["semantic"]
        loop.recorder.close()
    finally:
        os.chdir(before)
    row = {key: round(summary[key], 3) for key in MEASURED}
    for part, values in summary.get("parts", {}).items():
        row[f"{part}_bits_per_second"] = round(values["bits_per_second"], 3)
    done = {"steps": loop.progress.step, "epochs": loop.progress.epoch, "cpu_seconds": round(time.process_time() - started, 1)}
    return {**row, **done}


if __name__ == "__main__":
    main()
