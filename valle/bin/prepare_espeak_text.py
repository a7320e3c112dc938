"""Stage 1 of egs/espeak_text: manifests of a synthesised corpus.

python3 bin/prepare_espeak_text.py --corpus-dir download/espeak_text --output-dir data/manifests
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.synthesised import ManifestSettings, write_corpus
from valle.config import parse_flags
from valle.corpora.espeak_text import TEXTS_FILE, prepare_espeak_text, write_texts
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings(ManifestSettings):
    """Where the corpus is and where its manifests go."""

    corpus_dir: Path = field(default=Path("download/espeak_text"), metadata={"help": "what stage 0 left"})
    num_texts: int = field(default=20000, metadata={"help": "more training sentences, as text alone"})


def main() -> None:
    settings = parse_flags(Settings, usage=__doc__ or "")
    texts = {settings.output_dir / TEXTS_FILE: lambda: write_texts(settings.corpus_dir, settings.output_dir, num_texts=settings.num_texts)}
    write_corpus(
        settings, lambda: prepare_espeak_text(settings.corpus_dir, settings.output_dir), title="eSpeak, text and speech", more=texts
    )


if __name__ == "__main__":
    run_program(main)
