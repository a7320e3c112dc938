"""Stage 4 of every recipe: train, dev and test cuts with their tokens, statistics, a picture of them and the report.

python3 bin/finish_cuts.py --output-dir data/tokenized
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.corpora.report import table
from valle.errors import run_program
from valle.tokenizing.finish_cuts import FinishConfig, finish_cuts


def main() -> None:
    config = parse_flags(FinishConfig, usage=__doc__ or "")
    counts = finish_cuts(config)
    print(
        "\n".join(
            table([(part, values.num_cuts, f"{values.seconds / 3600:.2f}") for part, values in counts.items()], ("part", "cuts", "hours"))
        )
    )
    streams = counts["train"].to_dict()["streams"]
    rows = [(s["name"], s["tokens"], f"{s['entropy']:.3f}", f"{s['perplexity']:.1f}", f"{100 * s['used']:.1f} %") for s in streams]
    print("\n".join(table(rows, ("train", "tokens", "entropy", "perplexity", "used"))))
    print(f"report: {config.report}")


if __name__ == "__main__":
    run_program(main)
