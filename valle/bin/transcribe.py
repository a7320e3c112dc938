#!/usr/bin/env python3
"""Write down what recordings say, by a joint-lm or a speech-llama.

Usage:

  python3 bin/transcribe.py --model exp/joint-lm --audio a.wav b.flac --language English
  python3 bin/transcribe.py --model exp/speech-llama --audio a.wav b.flac
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.inference.asking import TranscribeOptions, transcribe


def main() -> None:
    options = parse_flags(TranscribeOptions, usage=__doc__ or "")
    for path, text in transcribe(options):
        print(f"{path}\t{text}")


if __name__ == "__main__":
    run_program(main)
