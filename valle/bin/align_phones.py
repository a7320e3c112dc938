#!/usr/bin/env python3
"""Finds when each phone of a transcript is said, by an aligner that it trains on synthetic speech and on the recordings themselves.

  python3 bin/align_phones.py --manifests data/manifests/cuts_dev.jsonl.gz data/manifests/cuts_test.jsonl.gz --output-dir data/aligned

Needs the embedded corpus (egs/espeak, stage 1), whose phone times are known.  About ten minutes on one core, and seconds once
--aligner-dir is there.
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import named_progress
from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.align_phones import AlignOptions, align_phones


def main() -> None:
    options = parse_flags(AlignOptions, usage=__doc__ or "")
    with named_progress() as progress:
        info = align_phones(options, progress=progress)
    left_out = f"; left out {len(info['left_out'])}" if info["left_out"] else ""
    print(f"{options.output_dir / 'cuts.jsonl.gz'}: {info['cuts']} cuts, {info['phones']} phones{left_out}")


if __name__ == "__main__":
    run_program(main)
