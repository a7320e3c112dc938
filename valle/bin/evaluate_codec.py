#!/usr/bin/env python3
"""How much a codec keeps of recordings: STOI, mel distance and SI-SDR by number of codebooks, beside the recording itself and silence.

python3 bin/evaluate_codec.py --audio FOLDER --title "LibriSpeech test-other" --output exp/codec.json
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.demo_summary import as_text
from valle.evaluation.evaluate_codec import EvaluateCodecOptions, codec_table, evaluate_codec


def main() -> None:
    options = parse_flags(EvaluateCodecOptions, usage=__doc__ or "")
    with progress_bar("scoring", "recordings") as progress:
        report = evaluate_codec(options, progress=progress)
    table = codec_table(f"{report['codec']} on {options.title}", report)
    print(f"{as_text(table)}\n{table.note}")


if __name__ == "__main__":
    run_program(main)
