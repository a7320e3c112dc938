"""Stage 0 of egs/espeak_dialogue: synthesise dialogues of two voices.

python3 bin/synthesize_espeak_dialogue.py --output-dir download/espeak_dialogue --num-hours 4 --num-voices 40
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.synthesised import synthesise
from valle.config import parse_flags
from valle.corpora.espeak_dialogue import EspeakDialogueConfig, synthesize_dialogues
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings(EspeakDialogueConfig):
    """The corpus, where it goes and how fast."""

    output_dir: Path = field(default=Path("download/espeak_dialogue"), metadata={"help": "folder of the corpus"})
    num_workers: int = field(default=2, metadata={"help": "synthesisers at a time; the audio does not depend on it"})


def main() -> None:
    synthesise(synthesize_dialogues, parse_flags(Settings, usage=__doc__ or ""), EspeakDialogueConfig, of="dialogues")


if __name__ == "__main__":
    run_program(main)
