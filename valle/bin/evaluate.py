#!/usr/bin/env python3
"""Measure a model on a corpus: codec, units, language models, continuations, each figure with its interval and its controls.

  python3 bin/evaluate.py --corpus data/tokenized --output-dir exp/report
  python3 bin/evaluate.py --exp-dir exp/audio-lm --corpus data/tokenized --whisper whisper-base --output-dir exp/report
  python3 bin/evaluate.py --compare exp/report-a exp/report-b --output-dir exp/comparison

Writes report.json, report.html and a file a suite; a suite that was finished is not measured again.
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import named_progress
from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.compare import compare_tables
from valle.evaluation.compare_models import PAGE as COMPARE_PAGE
from valle.evaluation.compare_models import compare
from valle.evaluation.demo_summary import as_text
from valle.evaluation.evaluate import PAGE, EvaluateOptions, evaluate, left_out, report_tables


def main() -> None:
    options = parse_flags(EvaluateOptions, usage=__doc__ or "")
    if options.compare:
        say_comparison(options)
        return
    with named_progress() as progress:
        report = evaluate(options, progress=progress)
    for table in report_tables(options, report):
        print(as_text(table))
    for reason in left_out(options):
        print(f"left out: {reason}")
    print(f"read: {(options.output_dir / PAGE).resolve()}")


def say_comparison(options: EvaluateOptions) -> None:
    with named_progress() as progress:
        comparison = compare(options, progress=progress)
    for table in compare_tables(comparison.reports, comparison.compared):
        print(as_text(table))
    for reason in comparison.left_out:
        print(f"left out: {reason}")
    print(f"read: {(options.output_dir / COMPARE_PAGE).resolve()}")


if __name__ == "__main__":
    run_program(main)
