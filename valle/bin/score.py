#!/usr/bin/env python3
"""Log-likelihoods of recordings under a model's stages: sums, means and, in a file of JSON lines, every token's.

python3 bin/score.py --audio right.wav wrong.wav --output exp/scores.jsonl
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.score import ScoreOptions, score


def main() -> None:
    options = parse_flags(ScoreOptions, usage=__doc__ or "")
    with progress_bar("scoring", "recordings") as progress:
        rows = score(options, progress=progress)
    for row in rows:
        mean = "-" if row["mean"] is None else f"{row['mean']:.3f}"
        print(f"{row['audio']}  {row['stage']}: sum {row['sum']:.1f}, mean {mean} nats over {row['count']} tokens")


if __name__ == "__main__":
    run_program(main)
