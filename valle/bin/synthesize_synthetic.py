"""Stage 0 of egs/synthetic: several synthesisers speak the embedded sentences.

python3 bin/synthesize_synthetic.py --output-dir download/synthetic --synthesisers espeak,hibari --num-hours 8 --num-voices 80
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.synthesised import synthesise
from valle.config import parse_flags
from valle.corpora.synthetic.corpus import SyntheticConfig, synthesize_synthetic
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings(SyntheticConfig):
    """The corpus, where it goes and how fast."""

    output_dir: Path = field(default=Path("download/synthetic"), metadata={"help": "folder of the corpus"})
    num_workers: int = field(default=2, metadata={"help": "synthesisers at a time; the audio does not depend on it"})


def main() -> None:
    synthesise(synthesize_synthetic, parse_flags(Settings, usage=__doc__ or ""), SyntheticConfig)


if __name__ == "__main__":
    run_program(main)
