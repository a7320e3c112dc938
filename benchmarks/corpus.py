"""A small corpus of egs/espeak, made by what its prepare.sh calls, in a folder of one's own."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from valle.corpora.espeak import EspeakConfig, prepare_espeak, synthesize_corpus
from valle.tokenizing.choose_tokenizers import TokenizersConfig, prepare_tokenizers
from valle.tokenizing.finish_cuts import FinishConfig, finish_cuts
from valle.tokenizing.tokenize_cuts import TokenizeConfig, tokenize_cuts


def make_audio(folder: Path, *, hours: float, dev_minutes: float = 2.0, test_minutes: float = 2.0) -> None:
    """Stages 0, 1 and 2: audio, manifests and the bundled tokenizers in ``folder``; voices and lengths are the demo's."""
    config = EspeakConfig(num_hours=hours, dev_minutes=dev_minutes, test_minutes=test_minutes)
    synthesize_corpus(folder / "download/espeak", config=config, num_workers=2)
    prepare_espeak(folder / "download/espeak", folder / "data/manifests")
    prepare_tokenizers(
        TokenizersConfig(
            acoustic="bundled", semantic="bundled", manifest_dir=folder / "data/manifests", output_dir=folder / "data/tokenizers"
        )
    )


def tokenize(folder: Path) -> None:
    """Stages 3 and 4; the manifests name their arrays from the recipe's folder, which becomes the current one meanwhile."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        tokenize_cuts(TokenizeConfig())
        finish_cuts(FinishConfig())
    finally:
        os.chdir(before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, required=True)
    arguments = parser.parse_args()
    make_audio(arguments.folder, hours=arguments.hours)
