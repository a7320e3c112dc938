#!/usr/bin/env python3
"""Speak the next turns of a conversation, each from its text and from what was said before it, by a conversation model.

Usage:

  python3 bin/converse.py --model exp/conversation --script talk.tsv --output-dir conversed

talk.tsv holds a turn a line: speaker, tab, text and, where the turn is given, tab, its recording.  The others are made.
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.inference.conversing import ConverseOptions, converse


def main() -> None:
    options = parse_flags(ConverseOptions, usage=__doc__ or "")
    for path, line in converse(options):
        print(f"{path}\t{line.speaker}\t{line.text}")


if __name__ == "__main__":
    run_program(main)
