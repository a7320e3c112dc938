"""Stage 0 of egs/espeak_text: synthesise the parallel corpus.

python3 bin/synthesize_espeak_text.py --output-dir download/espeak_text --languages en,es --num-hours 8 --num-voices 40
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.synthesised import synthesise
from valle.config import parse_flags
from valle.corpora.espeak_text import EspeakTextConfig, synthesize_text_corpus
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings(EspeakTextConfig):
    """The corpus, where it goes and how fast."""

    output_dir: Path = field(default=Path("download/espeak_text"), metadata={"help": "folder of the corpus"})
    num_workers: int = field(default=2, metadata={"help": "synthesisers at a time; the audio does not depend on it"})


def main() -> None:
    synthesise(synthesize_text_corpus, parse_flags(Settings, usage=__doc__ or ""), EspeakTextConfig)


if __name__ == "__main__":
    run_program(main)
