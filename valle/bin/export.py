#!/usr/bin/env python3
"""Write a released model (a folder with all that continues audio) from a training run.

Usage: python3 bin/export.py --exp-dir exp/audio-lm --output-dir released [--epoch 10 --avg 3 --use-averaged-model true]
       python3 bin/export.py --exp-dir exp/fine --stages-from semantic=exp/semantic coarse=exp/coarse --output-dir released
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.inference.export import ExportOptions, export


def main() -> None:
    options = parse_flags(ExportOptions, usage=__doc__ or "")
    print(f"wrote {export(options)} parameters to {options.output_dir}")


if __name__ == "__main__":
    run_program(main)
