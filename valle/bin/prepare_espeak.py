"""Stage 1 of egs/espeak: manifests of a synthesised corpus.

python3 bin/prepare_espeak.py --corpus-dir download/espeak --output-dir data/manifests
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.synthesised import ManifestSettings, write_corpus
from valle.config import parse_flags
from valle.corpora.espeak import prepare_espeak
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings(ManifestSettings):
    """Where the corpus is and where its manifests go."""

    corpus_dir: Path = field(default=Path("download/espeak"), metadata={"help": "what stage 0 left"})


def main() -> None:
    settings = parse_flags(Settings, usage=__doc__ or "")
    write_corpus(settings, lambda: prepare_espeak(settings.corpus_dir, settings.output_dir), title="eSpeak")


if __name__ == "__main__":
    run_program(main)
