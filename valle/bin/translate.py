#!/usr/bin/env python3
"""Translate sentences or recordings, to text or to sound, by a joint-lm.

Usage:

  python3 bin/translate.py --model exp/joint-lm --source English --target Spanish --text "Anna found the book."
  python3 bin/translate.py --model exp/joint-lm --source English --target Spanish --audio a.wav --task ASR+AST
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.inference.asking import TranslateOptions, translate


def main() -> None:
    options = parse_flags(TranslateOptions, usage=__doc__ or "")
    for answer in translate(options):
        print(f"{answer.transcript}\t{answer.text}" if answer.transcript and answer.transcript != answer.text else answer.text)


if __name__ == "__main__":
    run_program(main)
