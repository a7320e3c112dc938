"""The embedded corpus: multi-speaker English by eSpeak NG, synthesised on the spot, no download.

:func:`synthesize_corpus` (stage 0) writes 16 kHz mono 16-bit wavs and an index of them;
:func:`prepare_espeak` (stage 1) makes lhotse manifests of the index.  An utterance is a function of
(settings, part, number) alone, so the number of workers and interruptions change nothing.

A part is the shortest run of utterances 0, 1, 2, ... that reaches its duration.  Training voices take turns.
Dev has the training voices; in test, every second utterance has a voice that only test has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.qa import validate
from lhotse.supervision import AlignmentItem

from valle.corpora.espeak_config import EspeakConfig, EspeakConfigError, EspeakDirectoryError
from valle.corpora.espeak_grammar import PARTS
from valle.corpora.espeak_synthesiser import SAMPLE_RATE, Span
from valle.corpora.espeak_utterance import Utterance
from valle.corpora.espeak_writer import (
    PartReport,
    SynthesisReport,
    index_path,
    is_complete,
    read_index,
    synthesize_corpus,
)
from valle.corpora.manifests import write_cuts

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

    A cut is an utterance; its supervision has the text, the voice as ``speaker``, word and phone times as
    ``alignment["word"]`` and ``alignment["phone"]`` (seconds from the cut's start), and in ``custom`` the voice's
    settings and ``voice_is_in_train``.  Audio paths are absolute.  Every cut is validated by lhotse.
    Raises :class:`EspeakDirectoryError` unless the corpus is complete.
    """
    if not is_complete(directory):
        raise EspeakDirectoryError(f"expected a synthesised corpus in {directory}, found none that is complete; run stage 0 first")
    root = directory.resolve()
    sets = {}
    for part in PARTS:
        path = output_dir / f"cuts_{part}.jsonl.gz"
        write_cuts(_cuts(read_index(index_path(directory, part)), root), path)
        sets[part] = CutSet.from_jsonl_lazy(path)
    return sets


def _cuts(utterances: Iterable[Utterance], root: Path) -> Iterator[MonoCut]:
    for utterance in utterances:
        cut = _cut(utterance, root)
        validate(cut)
        yield cut


def _cut(utterance: Utterance, root: Path) -> MonoCut:
    duration = utterance.num_samples / SAMPLE_RATE
    voice = utterance.voice
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource(type="file", channels=[0], source=str(root / utterance.path))],
        sampling_rate=SAMPLE_RATE,
        num_samples=utterance.num_samples,
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0.0,
        duration=duration,
        text=utterance.text,
        language="English",
        speaker=voice.name,
        gender="female" if voice.is_female else "male",
        custom={
            "accent": voice.accent,
            "variant": voice.variant,
            "pitch": voice.pitch,
            "pitch_range": voice.pitch_range,
            "rate": voice.rate,
            "voice_is_in_train": utterance.voice_is_in_train,
        },
        alignment={"word": _alignment(utterance.words), "phone": _alignment(utterance.phones)},
    )
    return MonoCut(id=utterance.id, start=0.0, duration=duration, channel=0, recording=recording, supervisions=[supervision])


def _alignment(spans: Iterable[Span]) -> list[AlignmentItem]:
    return [AlignmentItem(symbol=span.symbol, start=span.start, duration=span.duration) for span in spans]
