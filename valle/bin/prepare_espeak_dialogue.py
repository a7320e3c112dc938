"""Stage 1 of egs/espeak_dialogue: manifests of a synthesised corpus.

python3 bin/prepare_espeak_dialogue.py --corpus-dir download/espeak_dialogue --output-dir data/manifests
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.synthesised import ManifestSettings, write_corpus
from valle.config import parse_flags
from valle.corpora.espeak_dialogue import prepare_espeak_dialogue
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings(ManifestSettings):
    """Where the corpus is and where its manifests go."""

    corpus_dir: Path = field(default=Path("download/espeak_dialogue"), metadata={"help": "what stage 0 left"})


def main() -> None:
    settings = parse_flags(Settings, usage=__doc__ or "")
    write_corpus(settings, lambda: prepare_espeak_dialogue(settings.corpus_dir, settings.output_dir), title="eSpeak, dialogues")


if __name__ == "__main__":
    run_program(main)
