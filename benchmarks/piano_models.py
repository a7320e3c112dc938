#!/usr/bin/env python3
"""egs/atepp with each acoustic model: training and continuations without units, by the recipe's own run.sh.

  python -m benchmarks.piano_models --audio-dir FOLDER --minutes 1

Every model is trained for the same minutes into egs/atepp/exp/NAME and continues prompts of the test part; a run that is there to its end
is not made again.  What they scored goes into benchmarks/results/atepp.json, beside what benchmarks.collect wrote there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, header, run_child

MODELS = ("ar-nar", "delay", "rq", "soundstorm")
RECIPE = ROOT / "egs" / "atepp"
TRAIN_OPTIONS = "--num-threads 1 --max-duration 25 --warmup-share 0.1 --num-workers 0"  # many small steps in a short time


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio-dir", type=Path, required=True, help="recordings of solo piano")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=(*MODELS, "flat"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, each")
    parser.add_argument("--num-prompts", type=int, default=2, help="that each continues by 5 s")
    parser.add_argument("--train-options", default=TRAIN_OPTIONS, help="more flags of the trainer, in one word")
    parser.add_argument("--output", type=Path, default=RESULTS / "atepp.json")
    options = parser.parse_args(arguments)
    shared = ["--audio-dir", options.audio_dir.resolve(), "--tokenizer", "valle-16khz"]
    run_child(["./run.sh", *shared, "--stop-stage", "0"], cwd=RECIPE)
    for name in (name for name in options.models if not finished(RECIPE / "exp" / name)):
        sizes = ["--minutes", f"{options.minutes:g}", "--num-prompts", str(options.num_prompts), "--max-seconds", "5"]
        places = ["--stage", "1", "--acoustic-model", name, "--exp-dir", f"exp/{name}", "--train-options", options.train_options]
        run_child(["./run.sh", *shared, *places, *sizes], cwd=RECIPE)
    command = ["python -m benchmarks.piano_models --audio-dir FOLDER --minutes", f"{options.minutes:g}"]
    command += ["--num-prompts", str(options.num_prompts), f'--train-options "{options.train_options}"']
    rows = [row_of(name, RECIPE / "exp" / name) for name in options.models]
    add_to(options.output, {**header(command), "minutes_each": options.minutes, "rows": rows})
    print(f"written: {options.output}")


def finished(exp_dir: Path) -> bool:
    """Whether a run is there, to its last continuation."""
    return (exp_dir / "continued" / "summary.json").is_file()


def row_of(name: str, exp_dir: Path) -> dict[str, Any]:
    """What the trainer and infer.py left in ``exp_dir``: nats a code by level, steps, and how much was continued."""
    summary = json.loads((exp_dir / "summary.json").read_text(encoding="utf-8"))
    infer = json.loads((exp_dir / "continued" / "summary.json").read_text(encoding="utf-8"))
    stages = [stage for stage in summary.values() if isinstance(stage, Mapping) and ("nll_per_codebook" in stage or "valid_nll" in stage)]

    def by_level(level_values: str, value: str) -> list[float]:
        return [round(one, 3) for stage in stages for one in stage.get(level_values) or [stage[value]]]

    nats = summary.get("codes")
    return {
        "name": name, "steps": summary["steps"], "dtype": summary["dtype"],
        "nll_by_level": by_level("nll_per_codebook", "valid_nll"), "unigram_by_level": by_level("unigram_nll_per_codebook", "unigram_nll"),
        "nats_per_second": None if nats is None else {key: round(value, 1) for key, value in nats.items()},
        "continuations": len(infer["items"]), "new_seconds": round(sum(item["generated_seconds"] for item in infer["items"]), 2),
    }  # fmt: skip


def add_to(path: Path, models: Mapping[str, Any]) -> None:
    """Put them into a file of results beside what it has."""
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**values, "acoustic_models": models}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
