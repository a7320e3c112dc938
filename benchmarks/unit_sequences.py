#!/usr/bin/env python3
"""Three unit sequences at equal time: a unit a frame, runs with durations, byte pairs; tokens and bits a second of audio.

  python -m benchmarks.unit_sequences --manifest-dir egs/espeak/data/tokenized --minutes 4

Each run trains the semantic stage alone with the demo's settings through bin/trainer_audiolm.py on one thread, for the same
minutes by the clock, validations included, one after another, and is measured on the same dev cuts.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import PROGRAMS, RESULTS, ROOT, header, run_child, write_results

DEMO = ROOT / "egs" / "espeak" / "conf" / "demo.yaml"
SEQUENCES = ("frames", "runs", "bpe")
MEASURED = ("valid_nll", "train_nll", "tokens_per_second", "bits_per_second", "unigram_bits_per_second")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest-dir", type=Path, required=True, help="data/tokenized of a recipe")
    parser.add_argument("--minutes", type=float, default=4.0, help="of each run")
    parser.add_argument("--vocab-size", type=int, default=1000, help="of the byte pairs")
    parser.add_argument("--output", type=Path, default=RESULTS / "unit_sequences.json")
    parser.add_argument("--work-dir", type=Path, help="keeps the runs there; not given: they are deleted")
    parser.add_argument("--train-options", default="", help='more flags for the trainer, in one word: "--decoder-dim 32 --nhead 2"')
    options = parser.parse_args(arguments)
    manifests = options.manifest_dir.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.work_dir or Path(scratch)).resolve()
        fit_unit_bpe(manifests, work / "unit_bpe.json", vocab_size=options.vocab_size)
        runs = {}
        for name in SEQUENCES:
            print(f"training: {name}", file=sys.stderr, flush=True)
            runs[name] = train(name, manifests, work, minutes=options.minutes, more=options.train_options.split())
    command = ["python -m benchmarks.unit_sequences --manifest-dir", str(options.manifest_dir), "--minutes", f"{options.minutes:g}"]
    if options.vocab_size != parser.get_default("vocab_size"):
        command.append(f"--vocab-size {options.vocab_size}")
    if options.train_options:
        command.append(f'--train-options "{options.train_options}"')
    info = json.loads((manifests / "info.json").read_text(encoding="utf-8"))["tokenizers"]["semantic"]
    about = {
        "tokenizer": info["name"],
        "num_units": info["codebook_size"],
        "unit_rate": info["sample_rate"] / info["hop_length"],
        "vocab_size": options.vocab_size,
        "minutes_each": options.minutes,
    }
    write_results(options.output, {**header(command), **about, "sequences": runs})
    print(f"written: {options.output}")


def fit_unit_bpe(manifest_dir: Path, output: Path, *, vocab_size: int) -> None:
    """Byte pairs of the training cuts' units."""
    run_child(
        [
            sys.executable, PROGRAMS / "fit_unit_bpe.py", "--manifest-dir", manifest_dir, "--output", output,
            "--vocab-size", str(vocab_size),
        ],
        cwd=manifest_dir.parents[1],
    )  # fmt: skip


def train(name: str, manifest_dir: Path, work: Path, *, minutes: float, more: Sequence[str] = ()) -> dict[str, Any]:
    """One run anew -> what it scores on dev, and what was done in the time."""
    exp_dir = work / name
    shutil.rmtree(exp_dir, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_child(
        [
            sys.executable, PROGRAMS / "trainer_audiolm.py", "--config", DEMO, "--manifest-dir", manifest_dir, "--exp-dir", exp_dir,
            "--train-stage", "semantic", "--unit-sequence", name, "--unit-bpe", work / "unit_bpe.json", "--max-minutes", f"{minutes:g}",
            "--num-epochs", "100000", "--valid-max-cuts", "1000", "--num-threads", "1", "--dtype", "float32", "--device", "cpu", *more,
        ],
        # Manifests name their arrays from the recipe's folder, which holds data/tokenized.
        cwd=manifest_dir.parents[1],
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = json.loads((exp_dir / "summary.json").read_text(encoding="utf-8"))
    row = {key: round(summary["semantic"][key], 3) for key in MEASURED}
    for part, values in summary["semantic"].get("parts", {}).items():
        row[f"{part}_bits_per_second"] = round(values["bits_per_second"], 3)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**row, "steps": summary["steps"], "epochs": summary["epochs"], "cpu_seconds": round(cpu, 1)}


if __name__ == "__main__":
    main()
