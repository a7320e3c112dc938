"""Stage 0 of egs/espeak: synthesise the embedded corpus.

python3 bin/synthesize_espeak.py --output-dir download/espeak --num-hours 8 --num-voices 40
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.synthesised import synthesise
from valle.config import parse_flags
from valle.corpora.espeak import EspeakConfig, synthesize_corpus
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings(EspeakConfig):
    """The corpus, where it goes and how fast."""

    output_dir: Path = field(default=Path("download/espeak"), metadata={"help": "folder of the corpus"})
    num_workers: int = field(default=2, metadata={"help": "synthesisers at a time; the audio does not depend on it"})


def main() -> None:
    synthesise(synthesize_corpus, parse_flags(Settings, usage=__doc__ or ""), EspeakConfig)


if __name__ == "__main__":
    run_program(main)
