"""Stage 1 of egs/synthetic: manifests of a synthesised corpus.

python3 bin/prepare_synthetic.py --corpus-dir download/synthetic --output-dir data/manifests
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.synthesised import ManifestSettings, write_corpus
from valle.config import parse_flags
from valle.corpora.synthetic.corpus import prepare_synthetic
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings(ManifestSettings):
    """Where the corpus is and where its manifests go."""

    corpus_dir: Path = field(default=Path("download/synthetic"), metadata={"help": "what stage 0 left"})


def main() -> None:
    settings = parse_flags(Settings, usage=__doc__ or "")
    write_corpus(settings, lambda: prepare_synthetic(settings.corpus_dir, settings.output_dir), title="synthetic voices")


if __name__ == "__main__":
    run_program(main)
