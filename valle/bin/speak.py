#!/usr/bin/env python3
"""Speak sentences in the voice of a recording, by a joint-lm and an AudioLM of the same units.

Usage:

  python3 bin/speak.py --model exp/joint-lm --voice-model exp/audio-lm --voice voice.wav --language English --text "Anna found the book."
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.inference.asking import SpeakOptions, speak


def main() -> None:
    options = parse_flags(SpeakOptions, usage=__doc__ or "")
    for path, text in speak(options):
        print(f"{path}\t{text}")


if __name__ == "__main__":
    run_program(main)
