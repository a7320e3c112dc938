#!/usr/bin/env python3
"""Continue audio in the same voice, and write a page to listen to.

Usage:

  python3 bin/infer.py --audio-prompts a.wav b.flac --output-dir continued
  python3 bin/infer.py --audio-prompts a.wav --output-dir continued --exp-dir exp/audio-lm --epoch 10 --avg 3 --use-averaged-model true

Without --checkpoint, --exp-dir or --model the bundled model speaks.  --mode resynthesize is the codec's round trip;
--mode acoustic makes sound from the recording's own units in the voice of its first --prompt-seconds.
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from pathlib import Path

from valle.config import parse_flags
from valle.errors import run_program
from valle.inference.infer import InferOptions, infer


def main() -> None:
    summary = infer(parse_flags(InferOptions, usage=__doc__ or "", config_files=[Path("conf/infer.yaml")]))
    for item in summary["items"]:
        print(f"{item['wav']}: {item['prompt_seconds']:.2f} s of prompt, {item['generated_seconds']:.2f} s generated")
    for stage, engine in summary["steps_taken_by"].items():
        print(f"steps of the {stage} stage: {engine}")
    print(f"{summary['rtf']:.2f} s of work per second of new audio; listen: {summary['page']}")


if __name__ == "__main__":
    run_program(main)
