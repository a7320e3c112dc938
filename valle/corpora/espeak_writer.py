"""Stage 0 of the embedded corpus: eSpeak NG's utterances to disk, by :mod:`valle.corpora.speech_writer`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from valle.corpora.espeak_config import EspeakConfig
from valle.corpora.espeak_synthesiser import EspeakSynthesiser, Speaker
from valle.corpora.espeak_utterance import Utterance, speak_utterance
from valle.corpora.speech import Speech
from valle.corpora.speech_writer import (
    IndexEntry,
    PartReport,
    SynthesisReport,
    index_path,
    is_complete,
    write_corpus,
)
from valle.corpora.speech_writer import read_index as read_any_index
from valle.progress import Progress

__all__ = ["PartReport", "SynthesisReport", "index_path", "is_complete", "read_index", "synthesize_corpus"]


def synthesize_corpus(directory: Path, *, config: EspeakConfig, num_workers: int = 1, progress: Progress | None = None) -> SynthesisReport:
    """Synthesise the corpus into ``directory``, or complete it, or replace one of other settings.

    ``progress(seconds_done, seconds_wanted)`` is called, in the caller's thread, after each shard.
    Raises :class:`EspeakDirectoryError` where the folder holds something else.
    """
    return write_corpus(
        directory,
        config=config,
        open_speaker=lambda: EspeakCorpusSpeaker(partial(speak_utterance, config)),
        num_workers=num_workers,
        progress=progress,
    )


def read_index(path: Path) -> Iterator[Utterance]:
    """Utterances of an index, one at a time."""
    return read_any_index(path, Utterance.from_dict)


class SpeakUtterance(Protocol):
    """Makes one utterance of its part and its number alone."""

    def __call__(self, *, part: str, number: int, speaker: Speaker) -> tuple[IndexEntry, Speech]: ...


class EspeakCorpusSpeaker:
    """A synthesiser of one thread's own, and what it is to speak."""

    def __init__(self, speak: SpeakUtterance) -> None:
        self._speak = speak
        self._synthesiser = EspeakSynthesiser()

    def __enter__(self) -> EspeakCorpusSpeaker:
        return self

    def __exit__(self, *_: Any) -> None:
        self._synthesiser.close()

    def speak_utterance(self, part: str, number: int) -> tuple[IndexEntry, NDArray[np.int16]]:
        utterance, speech = self._speak(part=part, number=number, speaker=self._synthesiser)
        return utterance, speech.samples
