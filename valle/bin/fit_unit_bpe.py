#!/usr/bin/env python3
"""Byte pairs of a tokenized corpus's units, for trainer_audiolm.py --unit-sequence bpe.

In a recipe's folder, after ./prepare.sh:

  python3 bin/fit_unit_bpe.py --vocab-size 1000
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.data.fit_unit_bpe import UnitBpeOptions, fit
from valle.errors import run_program


def main() -> None:
    options = parse_flags(UnitBpeOptions, usage=__doc__ or "")
    fitted = fit(options)
    print(
        f"{options.output}: {fitted.bpe.num_tokens} tokens of {fitted.bpe.num_units} units, "
        f"{fitted.frames_per_token:.2f} frames each on average, {fitted.bpe.longest} at most"
    )


if __name__ == "__main__":
    run_program(main)
