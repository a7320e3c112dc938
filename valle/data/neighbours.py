"""Of each cut the utterances beside it by the same voice: whose sound prompts the fine stage with ``--prefix-mode 4``."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut
from numpy.typing import NDArray

from valle.corpora.manifests import parse_cut
from valle.tokenizing.cut_index import CutIndex, mark_of
from valle.tokenizing.token_manifests import TokenManifests

NOBODY = -1  # where a voice has no utterance on that side


@dataclass(frozen=True)
class _Part:
    """The neighbours within train or dev, by numbers of lines."""

    path: Path  # of the lines, for messages
    lines: Sequence[str] | CutIndex  # kept in memory where there is no index
    marks: NDArray[np.uint64]  # (N,) of the ids, sorted
    numbers: NDArray[np.int64]  # (N,) the cut of each mark
    beside: NDArray[np.int32]  # (N, 2) by number of cut: the one before and the one after, or NOBODY

    def choose(self, cut_id: str, chance: float) -> Cut | None:
        place = int(np.searchsorted(self.marks, np.uint64(mark_of(cut_id))))
        if place == len(self.marks) or self.marks[place] != mark_of(cut_id):
            return None
        found = [int(number) for number in self.beside[self.numbers[place]] if number != NOBODY]
        if not found:
            return None
        number = found[int(chance * len(found))]
        return self.lines.cuts([number])[0] if isinstance(self.lines, CutIndex) else parse_cut(self.lines[number], self.path)


class Neighbours:
    """Before and after an utterance stand those of the same voice in the order of their ids, as in the VALL-E family.

    A voice is a speaker of the supervisions or, where none is named, a recording, whose pieces are then each other's neighbours.
    Training cuts and dev cuts are never neighbours of each other.  A corpus is read once, 28 bytes of memory a cut; without an
    index the cuts themselves are kept too.
    """

    def __init__(self, manifests: TokenManifests) -> None:
        parts = [(part, manifests.index(part)) for part in ("train", "dev")]
        # A part of Shar without an index comes with its tokens in one pass and cannot be read by place: nobody is found there.
        self._parts = [_read_part(manifests, part, index) for part, index in parts if index is not None or manifests.num_shards is None]

    def choose(self, cut_id: str, chance: float) -> Cut | None:
        """The utterance before or after that of ``cut_id``, by ``chance`` in 0..1; None where its voice has no other."""
        return next((cut for part in self._parts if (cut := part.choose(cut_id, chance)) is not None), None)


def _read_part(manifests: TokenManifests, part: str, index: CutIndex | None) -> _Part:
    path = manifests.cuts_paths(part)[0] if index is None else index.lines_path
    lines = list(_lines(path)) if index is None else _lines(path)
    voices: list[tuple[str, str, int, tuple[str, float]]] = []
    for number, line in enumerate(lines):
        cut = json.loads(line)
        voices.append((voice_of(cut), cut["id"], number, (_recording_of(cut), cut["start"])))
    marks = np.array([mark_of(cut_id) for _, cut_id, _, _ in voices], np.uint64)
    order = np.argsort(marks)
    beside = np.full((len(voices), 2), NOBODY, np.int32)
    for (voice, _, number, place), (next_voice, _, following, next_place) in pairwise(sorted(voices)):
        if voice == next_voice and place != next_place:  # a cut that a mixture repeats would show its own answers
            beside[number, 1], beside[following, 0] = following, number
    return _Part(path, index or lines, marks[order], order, beside)  # type: ignore[arg-type]


def voice_of(cut: dict[str, Any]) -> str:
    """Whose voice a cut is, as its manifest says: a speaker, else its recording."""
    speaker = next((supervision["speaker"] for supervision in cut.get("supervisions") or () if supervision.get("speaker")), None)
    if speaker is not None:
        return f"speaker {speaker}"
    return f"recording {_recording_of(cut)}"


def _recording_of(cut: dict[str, Any]) -> str:
    """A cut that names no recording is one of its own."""
    return str((cut.get("recording") or {}).get("id") or cut["id"])


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
        yield from stream
