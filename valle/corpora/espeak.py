"""The embedded corpus: multi-speaker English by eSpeak NG, synthesised on the spot, no download.

:func:`synthesize_corpus` (stage 0) writes 16 kHz mono 16-bit wavs and an index of them;
:func:`prepare_espeak` (stage 1) makes lhotse manifests of the index.  An utterance is a function of
(settings, part, number) alone, so the number of workers and interruptions change nothing.

A part is the shortest run of utterances 0, 1, 2, ... that reaches its duration.  Training voices take turns.
Dev has the training voices; in test, every second utterance has a voice that only test has.
"""

from __future__ import annotations

from pathlib import Path

from lhotse import CutSet

from valle.corpora.espeak_config import EspeakConfig, EspeakConfigError, EspeakDirectoryError
from valle.corpora.espeak_utterance import Utterance
from valle.corpora.espeak_writer import PartReport, SynthesisReport, synthesize_corpus
from valle.corpora.speech_cuts import write_manifests

__all__ = [
    "EspeakConfig",
    "EspeakConfigError",
    "EspeakDirectoryError",
    "PartReport",
    "SynthesisReport",
    "prepare_espeak",
    "synthesize_corpus",
]


def prepare_espeak(directory: Path, output_dir: Path) -> dict[str, CutSet]:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` of a synthesised corpus and return them, read lazily.

    See :func:`valle.corpora.speech_cuts.write_manifests`; ``custom`` has the voice's settings of eSpeak NG.
    """
    return write_manifests(
        directory,
        output_dir,
        parse=Utterance.from_dict,
        is_female=lambda utterance: utterance.voice.is_female,
        describe=lambda utterance: utterance.voice.settings,
    )
