#!/usr/bin/env python3
"""Measures speed and memory, each figure beside its goal.

python -m benchmarks.run               benchmarks/results/basics.json, memory.json and decoding.json
python -m benchmarks.run --fast        the same path in tiny sizes, to see that it works; its figures say nothing
python -m benchmarks.run --only basics
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, goal_lines, header, write_results

TRAIN_HOURS = 1.0  # of the corpus on which padding and stage 3 are measured
PARTS = ("basics", "memory", "decoding")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="tiny sizes, for tests")
    parser.add_argument("--only", choices=PARTS, help="one of the files")
    parser.add_argument("--output-dir", type=Path, default=RESULTS, help="where the files go")
    options = parser.parse_args(arguments)
    fast = ["--fast"] if options.fast else []
    if options.only in (None, "basics"):
        results = {**header(["python -m benchmarks.run", *fast]), "fast": options.fast, **basics(fast=options.fast)}
        write_results(options.output_dir / "basics.json", results)
        print("\n".join([*goal_lines(results), f"written: {options.output_dir / 'basics.json'}"]))
    for part, module in (("memory", "memory"), ("decoding", "engines")):
        if options.only in (None, part):
            # A process of its own: what this one holds would count as its children's.
            output = options.output_dir.resolve() / f"{part}.json"
            subprocess.run([sys.executable, "-m", f"benchmarks.{module}", "--output", str(output), *fast], cwd=ROOT, check=True)


def basics(*, fast: bool = False) -> dict[str, Any]:
    """Every figure of speed, in one run."""
    # Here, so that --help and the memory benchmark need not wait for torch.
    from benchmarks.continuing import bench_infer
    from benchmarks.corpus import make_audio, tokenize
    from benchmarks.decoding import bench_decoding
    from benchmarks.tokenizing import bench_codec, bench_stage_3
    from benchmarks.training import bench_training

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        _say("synthesising and tokenising a corpus")
        make_audio(corpus, hours=0.01 if fast else TRAIN_HOURS, dev_minutes=0.2 if fast else 2, test_minutes=0.2 if fast else 2)
        tokenize(corpus)
        _say("stage 3")
        results: dict[str, Any] = {"stage_3": bench_stage_3(corpus, repeats=1 if fast else 3)}
        _say("the codec")
        results["codec"] = bench_codec(seconds=1.0 if fast else 10.0, repeats=2 if fast else 15)
        _say("the trainer's step")
        before = Path.cwd()
        os.chdir(corpus)  # manifests name their files from a recipe's folder
        try:
            results["training"] = bench_training(corpus, corpus / "exp", fast=fast)
        finally:
            os.chdir(before)
    _say("infer")
    results["infer"] = bench_infer(fast=fast)
    _say("cached decoding beside transformers' Llama")
    results["decoding"] = bench_decoding(fast=fast)
    return {"wall_seconds": round(time.monotonic() - started, 1), **results}


def _say(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
