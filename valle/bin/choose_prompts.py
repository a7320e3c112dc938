#!/usr/bin/env python3
"""Audio to continue: cuts of a manifest, of as many speakers as there are, as wavs.

python3 bin/choose_prompts.py --manifest-dir data/tokenized --part test --num-prompts 8 --output-dir exp/prompts
"""

from __future__ import annotations

from valle.config import parse_flags
from valle.data.prompts import PromptsConfig, write_prompts
from valle.errors import run_program


def main() -> None:
    for path in write_prompts(parse_flags(PromptsConfig, usage=__doc__ or "")):
        print(path)


if __name__ == "__main__":
    run_program(main)
