"""Stage 1 of a synthesised corpus: its index to lhotse manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.qa import validate
from lhotse.supervision import AlignmentItem

from valle.corpora.espeak_grammar import PARTS
from valle.corpora.manifests import write_cuts
from valle.corpora.speech import SAMPLE_RATE, Span
from valle.corpora.speech_config import CorpusDirectoryError
from valle.corpora.speech_utterance import SpokenUtterance
from valle.corpora.speech_writer import index_path, is_complete, read_index

Utterance = TypeVar("Utterance", bound=SpokenUtterance[Any])
Entry = TypeVar("Entry")


def write_manifests(
    directory: Path,
    output_dir: Path,
    *,
    parse: Callable[[dict[str, Any]], Utterance],
    is_female: Callable[[Utterance], bool | None],
    describe: Callable[[Utterance], dict[str, Any]],
    language_of: Callable[[Utterance], str] = lambda _: "English",
) -> dict[str, CutSet]:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` of a synthesised corpus and return them, read lazily.

    A cut is an utterance; its supervision has the text, the voice as ``speaker``, word and phone times, where they are known, as
    ``alignment["word"]`` and ``alignment["phone"]`` (seconds from the cut's start), and in ``custom`` what ``describe`` says of it
    and ``voice_is_in_train``.  Audio paths are absolute.  Every cut is validated by lhotse.
    Raises :class:`CorpusDirectoryError` unless the corpus is complete.
    """
    def cuts_of(utterance: Utterance, root: Path) -> Iterator[MonoCut]:
        yield _cut(utterance, root, is_female=is_female(utterance), described=describe(utterance), language=language_of(utterance))

    return write_parts(directory, output_dir, parse=parse, cuts_of=cuts_of)


def write_parts(
    directory: Path,
    output_dir: Path,
    *,
    parse: Callable[[dict[str, Any]], Entry],
    cuts_of: Callable[[Entry, Path], Iterable[MonoCut]],
) -> dict[str, CutSet]:
    """``write_manifests`` of an index with other entries: ``cuts_of`` makes cuts of an entry and the corpus's absolute folder."""
    if not is_complete(directory):
        raise CorpusDirectoryError(f"expected a synthesised corpus in {directory}, found none that is complete; run stage 0 first")
    root = directory.resolve()

    def cuts(part: str) -> Iterator[MonoCut]:
        for entry in read_index(index_path(directory, part), parse):
            for cut in cuts_of(entry, root):
                validate(cut)
                yield cut

    sets = {}
    for part in PARTS:
        path = output_dir / f"cuts_{part}.jsonl.gz"
        write_cuts(cuts(part), path)
        sets[part] = CutSet.from_jsonl_lazy(path)
    return sets


def _cut(utterance: SpokenUtterance[Any], root: Path, *, is_female: bool | None, described: dict[str, Any], language: str) -> MonoCut:
    duration = utterance.num_samples / SAMPLE_RATE
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource(type="file", channels=[0], source=str(root / utterance.path))],
        sampling_rate=SAMPLE_RATE,
        num_samples=utterance.num_samples,
        duration=duration,
    )
    times = {"word": alignment(utterance.words), "phone": alignment(utterance.phones)} if utterance.words else None
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0.0,
        duration=duration,
        text=utterance.text,
        language=language,
        speaker=utterance.voice.name,
        gender=None if is_female is None else "female" if is_female else "male",
        custom={**described, "voice_is_in_train": utterance.voice_is_in_train},
        alignment=times,
    )
    return MonoCut(id=utterance.id, start=0.0, duration=duration, channel=0, recording=recording, supervisions=[supervision])


def alignment(spans: Iterable[Span]) -> list[AlignmentItem]:
    """Spans as lhotse has them."""
    return [AlignmentItem(symbol=span.symbol, start=span.start, duration=span.duration) for span in spans]
