#!/usr/bin/env python3
"""How much of what is said units keep, and how little of who says it: ABX, PNMI and a speaker probe, beside their controls.

  python3 bin/evaluate_units.py --tokenizers mfcc-kmeans exp/hubert-2/units --voices unseen --output exp/units.json

With --exp-dir it first fits units on every layer of a trained encoder and keeps the best by ABX on dev:

  python3 bin/evaluate_units.py --exp-dir exp/hubert-2 --layers 3 4 5 --num-units 100 200 --output-dir exp/hubert-2/units
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.demo_summary import as_text
from valle.evaluation.evaluate_units import EvaluateUnitsOptions, evaluate_units
from valle.evaluation.unit_report import choice_table, unit_table


def main() -> None:
    options = parse_flags(EvaluateUnitsOptions, usage=__doc__ or "")
    with progress_bar("fitting units", "h") as progress:
        result = evaluate_units(options, progress=progress)
    if result["choice"]:
        table = choice_table(result["choice"])
        print(f"{as_text(table)}\n{table.note}\n")
    table = unit_table(f"Units on {options.title}", result["reports"])
    print(f"{as_text(table)}\n{table.note}")


if __name__ == "__main__":
    run_program(main)
