"""The parallel corpus: sentences in several languages by eSpeak NG with their transcripts, synthesised on the spot, no download.

:func:`synthesize_text_corpus` (stage 0) writes wavs and an index; :func:`prepare_espeak_text` (stage 1) makes lhotse manifests of it.
A part is the shortest run of sentences 0, 1, 2, ... whose utterances reach its duration.  Training voices take turns.  Dev has
the training voices; in test, every second sentence has a voice that only test has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from lhotse import CutSet

from valle.corpora.espeak_text_utterance import EspeakTextConfig, ParallelUtterance, draw_texts, speak_parallel
from valle.corpora.espeak_writer import EspeakCorpusSpeaker
from valle.corpora.manifests import write_lines
from valle.corpora.parallel_grammar import find_languages
from valle.corpora.speech_config import CorpusDirectoryError
from valle.corpora.speech_cuts import write_manifests
from valle.corpora.speech_writer import SynthesisReport, write_corpus
from valle.progress import Progress

__all__ = ["EspeakTextConfig", "prepare_espeak_text", "synthesize_text_corpus", "write_texts"]

FIRST_TEXT = 10**7  # number of the first sentence that is not spoken; a thousand hours have fewer
TEXTS_FILE = "texts_train.jsonl.gz"


def synthesize_text_corpus(
    directory: Path, *, config: EspeakTextConfig, num_workers: int = 1, progress: Progress | None = None
) -> SynthesisReport:
    """Synthesise the corpus into ``directory``, or complete it, or replace one of other settings.

    ``progress(seconds_done, seconds_wanted)`` is called, in the caller's thread, after each shard.
    Raises :class:`CorpusDirectoryError` where the folder holds something else.
    """
    return write_corpus(
        directory,
        config=config,
        open_speaker=lambda: EspeakCorpusSpeaker(partial(speak_parallel, config)),
        num_workers=num_workers,
        progress=progress,
    )


def prepare_espeak_text(directory: Path, output_dir: Path) -> dict[str, CutSet]:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` of a synthesised corpus and return them, read lazily.

    See :func:`valle.corpora.speech_cuts.write_manifests`; a supervision has the ``language``, and in ``custom`` the voice's settings of
    eSpeak NG, the id of the ``sentence`` and its ``translations``, by language the text and the id of the cut that says it.  Words that
    eSpeak NG says as one share an item of ``alignment["word"]``.
    """
    return write_manifests(
        directory,
        output_dir,
        parse=ParallelUtterance.from_dict,
        is_female=lambda utterance: utterance.voice.is_female,
        describe=_describe,
        language_of=lambda utterance: utterance.language,
    )


def write_texts(directory: Path, output_dir: Path, *, num_texts: int) -> None:
    """Leave ``texts_train.jsonl.gz``: ``num_texts`` more training sentences of a synthesised corpus, in its languages, as text alone."""
    try:
        settings = json.loads((directory / "settings.json").read_text(encoding="utf-8"))
        config = EspeakTextConfig(**{entry.name: settings[entry.name] for entry in fields(EspeakTextConfig)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusDirectoryError(f"expected a corpus's settings in {directory}, found none; run stage 0 first") from error
    write_lines(_text_lines(config, num_texts), output_dir / TEXTS_FILE)


def _text_lines(config: EspeakTextConfig, num_texts: int) -> Iterator[str]:
    names = [language.name for language in find_languages(config.languages)]
    for number in range(FIRST_TEXT, FIRST_TEXT + num_texts):
        texts = draw_texts(config, part="train", sentence=number)
        yield json.dumps({"texts": dict(zip(names, texts, strict=True))}, ensure_ascii=False)


def _describe(utterance: ParallelUtterance) -> dict[str, Any]:
    return {**utterance.voice.settings, "sentence": utterance.sentence, "translations": utterance.translations}
