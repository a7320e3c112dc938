#!/usr/bin/env python3
"""Continue prompts with the demo's model, measure it, and say where to listen.

python3 bin/demo_report.py --exp-dir exp/demo --num-prompts 16
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.demo import DemoOptions, report_demo
from valle.evaluation.demo_summary import as_text, demo_tables


def main() -> None:
    options = parse_flags(DemoOptions, usage=__doc__ or "")
    summary = report_demo(options, step=lambda text: print(f"{text} ...", flush=True))
    for table in demo_tables(summary):
        print(f"\n{as_text(table)}")
    if "page" in summary["report"]:
        print(f"\nread: {(options.exp_dir / summary['report']['page']).resolve()}")
    print(f"\nlisten: {(options.exp_dir / 'index.html').resolve()}")


if __name__ == "__main__":
    run_program(main)
