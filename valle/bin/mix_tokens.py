"""Several prepared corpora as one, for one model to learn from.

In a recipe's folder, after prepare.sh of each:

  python3 bin/mix_tokens.py --manifest-dirs ../espeak/data/tokenized ../librispeech/data/tokenized --repeats 1 3 --output-dir data/tokenized
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.corpora.report import table
from valle.errors import run_program
from valle.tokenizing.mix import MixConfig, mix_tokens


def main() -> None:
    counts = mix_tokens(parse_flags(MixConfig, usage=__doc__ or ""))
    rows = [(part, values.num_cuts, f"{values.seconds / 3600:.2f}") for part, values in counts.items()]
    print("\n".join(table(rows, ("part", "cuts", "hours"))))


if __name__ == "__main__":
    run_program(main)
