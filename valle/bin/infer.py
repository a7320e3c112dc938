#!/usr/bin/env python3
"""Continue audio in the same voice, and write a page to listen to.

Usage:

  python3 bin/infer.py --audio-prompts a.wav b.flac --output-dir continued
  python3 bin/infer.py --audio-prompts a.wav --output-dir continued --exp-dir exp/audio-lm --epoch 10 --avg 3 --use-averaged-model true

Without --checkpoint, --exp-dir or --model the bundled model speaks.  --mode resynthesize is the codec's round trip;
--mode acoustic makes sound from the recording's own units in the voice of its first --prompt-seconds.
With --stream, new audio is written to standard output as it is made:

  python3 bin/infer.py --audio-prompts a.wav --output-dir continued --stream wav | ffplay -nodisp -autoexit -
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

import sys
from pathlib import Path

from valle.config import parse_flags
from valle.errors import UserError, run_program
from valle.inference.infer import InferOptions, infer


def main() -> None:
    options = parse_flags(InferOptions, usage=__doc__ or "", config_files=[Path("conf/infer.yaml")])
    streams = options.stream != "no"
    if streams and sys.stdout.isatty():
        raise UserError("--stream writes sound to standard output, which is a terminal here; add | and a player, or > and a file")
    summary = infer(options, player=sys.stdout.buffer if streams else None)
    told = sys.stderr if streams else sys.stdout
    for item in summary["items"]:
        waited = f", the first of it {item['first_audio_ms']:.0f} ms after the prompt" if "first_audio_ms" in item else ""
        print(f"{item['wav']}: {item['prompt_seconds']:.2f} s of prompt, {item['generated_seconds']:.2f} s generated{waited}", file=told)
    for stage, engine in summary["steps_taken_by"].items():
        print(f"steps of the {stage} stage: {engine}", file=told)
    if summary["watermark"] == "none":
        print("watermark: off; nothing in the sound tells that it is generated, so say it where you pass it on", file=told)
    print(f"{summary['rtf']:.2f} s of work per second of new audio; listen: {summary['page']}", file=told)


if __name__ == "__main__":
    run_program(main)
