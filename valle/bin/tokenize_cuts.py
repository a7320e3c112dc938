"""Stage 3 of every recipe: units and codes of every cut, resumable by shard.

python3 bin/tokenize_cuts.py --manifest-dir data/manifests --tokenizer-dir data/tokenizers --output-dir data/tokenized
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from time import monotonic

from valle.bin.terminal import progress_bar, say_parts, say_speed
from valle.config import parse_flags
from valle.errors import run_program
from valle.tokenizing.tokenize_cuts import TokenizeConfig, tokenize_cuts


def main() -> None:
    config = parse_flags(TokenizeConfig, usage=__doc__ or "")
    start = monotonic()
    with progress_bar("tokens", "h") as progress:
        parts = tokenize_cuts(config, progress=progress)
    say_parts(parts, config.dtype)
    say_speed(sum(tokens.seconds for tokens in parts.values()), monotonic() - start)


if __name__ == "__main__":
    run_program(main)
