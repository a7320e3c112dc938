#!/usr/bin/env python3
"""What to expect of tokenizers' training: the curves of runs in one picture, and a table of where they begin and end.

python -m benchmarks.tokenizer_curves --exp-dirs exp/hubert-1 exp/hubert-2 --picture docs/images/unit-curves.png --output unit_curves
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, header, write_results
from valle.evaluation.curves import Curve, draw_curves, read_curves

SIDE = "discriminator"  # an adversary's own loss is no measure of the run


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp-dirs", type=Path, nargs="+", required=True, help="runs of trainer_speech_encoder.py or trainer_codec.py")
    parser.add_argument("--picture", type=Path, required=True, help="PNG to write")
    parser.add_argument("--unit", default="nats a target", help="of the losses, for the picture")
    parser.add_argument("--output", required=True, help="name of the file in benchmarks/results")
    options = parser.parse_args(arguments)
    command = ["python -m benchmarks.tokenizer_curves", shlex.join(arguments if arguments is not None else sys.argv[1:])]
    curves = {folder.name: _curve(folder) for folder in options.exp_dirs}
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(curves, options.picture, unit=options.unit)
    rows = [{"name": folder.name, **_ends(folder, curves[folder.name])} for folder in options.exp_dirs]
    write_results(RESULTS / f"{options.output}.json", {**header(command), "unit": options.unit, "runs": rows})


def _curve(folder: Path) -> Curve:
    parts = read_curves(folder / "curves.jsonl")
    return next(curve for part, curve in parts.items() if part != SIDE)


def _ends(folder: Path, curve: Curve) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / "curves.jsonl").read_text(encoding="utf-8").splitlines()]
    last = max(rows, key=lambda row: row["step"])
    return {
        "steps": last["step"], "minutes": round(last["seconds"] / 60, 1),
        "train": [round(value, 3) for _, value in (curve.train[0], curve.train[-1])],
        "dev": [round(curve.valid[-1][1], 3)] if curve.valid else [],
        "dev_accuracy": next((round(row["accuracy"], 3) for row in reversed(rows) if row["kind"] == "valid" and row["part"] != SIDE), None),
    }  # fmt: skip


if __name__ == "__main__":
    main()
