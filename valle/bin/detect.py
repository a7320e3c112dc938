#!/usr/bin/env python3
"""Whether audio files carry the watermark of this program, or sound generated: a line a file, FILE<TAB>VERDICT<TAB>SCORE.

Usage:

  python3 bin/detect.py a.wav b.mp3
  python3 bin/detect.py a.wav --json true
  python3 bin/detect.py a.wav --verify true     # the record of provenance in the file, and its signature

VERDICT is watermarked, generated, neither or cannot-tell. SCORE of the first says how many zeros the chance of a false alarm has.
"neither" is no proof that a recording is real: docs/responsible-use.md says what this can and cannot do.
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

import json

from valle.config import parse_flags
from valle.errors import run_program
from valle.inference.detect import DetectOptions, detect


def main() -> None:
    options = parse_flags(DetectOptions, usage=__doc__ or "")
    for row in detect(options):
        last = row["detail"] if options.verify else f"{row['score']:g}"
        print(json.dumps(row) if options.json else f"{row['file']}\t{row['verdict']}\t{last}", flush=True)


if __name__ == "__main__":
    run_program(main)
