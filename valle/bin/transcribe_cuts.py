"""Stage 1 of recipes without transcripts, where they are wanted: what a public recogniser hears in every cut, written into the manifests.

python3 bin/transcribe_cuts.py --whisper FOLDER --language English --language-code en
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.transcribe_cuts import TranscribeCutsConfig, transcribe_cuts


def main() -> None:
    config = parse_flags(TranscribeCutsConfig, usage=__doc__ or "")
    with progress_bar("transcripts", "cuts") as progress:
        found = transcribe_cuts(config, progress=progress)
    print(found)


if __name__ == "__main__":
    run_program(main)
