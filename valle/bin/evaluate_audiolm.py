#!/usr/bin/env python3
"""Nats a token of the dev cuts under a model, as its trainer measures them.

python3 bin/evaluate_audiolm.py --init-from FOLDER_OR_CHECKPOINT --manifest-dir data/tokenized --output exp/before.json
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.training.finetune import EvaluateOptions, evaluate
from valle.training.summary import CODES


def main() -> None:
    for name, row in evaluate(parse_flags(EvaluateOptions, usage=__doc__ or "")).items():
        if name == CODES:
            print(f"{name}: valid {row['valid_nats_per_second']:.1f}, unigram {row['unigram_nats_per_second']:.1f} nats a second of audio")
            continue
        nll = row.get("nll_per_codebook") or [row["valid_nll"]]
        unigram = row.get("unigram_nll_per_codebook") or [row["unigram_nll"]]
        bits = f", {row['bits_per_second']:.1f} bits a second of audio" if "bits_per_second" in row else ""
        print(f"{name}: valid {' '.join(f'{value:.3f}' for value in nll)}, unigram {' '.join(f'{value:.3f}' for value in unigram)}{bits}")


if __name__ == "__main__":
    run_program(main)
