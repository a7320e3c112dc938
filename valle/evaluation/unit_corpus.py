"""Audio, phones and speakers of a manifest, as units are scored on them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from lhotse.cut import Cut
from numpy.typing import NDArray
from torch import Tensor

from valle.audio import resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.measures.abx import PhoneItem
from valle.tokenizers.base import SemanticTokenizer

PAUSE = 0.03  # seconds without a phone after which its neighbour is the pause
EDGE = "#"
LIBRISPEECH_ID = re.compile(r"((\d+)-\d+)-\d+")
Span = Literal["phone", "triphone"]
Context = Literal["same", "any"]


class UnitReportError(UserError):
    """Nothing to score units on."""


class TimedPhone(NamedTuple):
    """What is said from ``begin`` to ``end`` seconds of a cut; ``confidence`` 0..1 of who found the times, 1 where they are known."""

    symbol: str
    begin: float
    end: float
    confidence: float


@runtime_checkable
class HasFeatures(Protocol):
    """A tokenizer that also gives the vectors whose nearest centroids are its units."""

    centroids: Tensor

    def features(self, wav: Tensor, lengths: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class EncodedCorpus:
    """Cuts with their units, laid end to end.

    Phones found with less than ``min_confidence`` are others' neighbours, and are not scored.
    """

    cuts: list[Cut]
    units: list[NDArray[np.int64]]  # (T_u,) a cut
    features: NDArray[np.float32] | None  # (sum of T_u, D)
    centroids: NDArray[np.float32] | None
    step: float  # seconds from one unit to the next
    num_units: int
    min_confidence: float = 0.0

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Each cut's first unit among all; after the last, the number of all."""
        return np.concatenate([[0], np.cumsum([len(units) for units in self.units])])

    @property
    def speakers(self) -> list[str]:
        return [speaker_of(cut) for cut in self.cuts]

    @property
    def sessions(self) -> list[str]:
        return [session_of(cut) for cut in self.cuts]

    def items(self, span: Span, context: Context = "same") -> list[PhoneItem]:
        """Every phone with its neighbours; with ``triphone`` its neighbours' frames too, and only where it has both.

        With the context ``any``, phones are compared whatever their neighbours: none are named.
        """
        found = []
        for cut, start, units in zip(self.cuts, self.starts, self.units, strict=False):
            phones = timed_phones(cut)
            for index, (symbol, begin, end, confidence) in enumerate(phones):
                if confidence < self.min_confidence:
                    continue
                before, after = _neighbour(phones, index, -1), _neighbour(phones, index, 1)
                if span == "triphone":
                    if EDGE in (before, after):
                        continue
                    begin, end = phones[index - 1].begin, phones[index + 1].end
                first, last = frames_within(begin, end, self.step, len(units))
                before, after = (before, after) if context == "same" else (EDGE, EDGE)
                found.append(PhoneItem(symbol, before, after, speaker_of(cut), int(start) + first, int(start) + last))
        return found

    def phone_frames(self) -> tuple[list[NDArray[np.int64]], list[str]]:
        """For every cut the phone at the middle of each unit, -1 for none; and the phones' names."""
        phones = [[phone for phone in timed_phones(cut) if phone.confidence >= self.min_confidence] for cut in self.cuts]
        names = sorted({phone.symbol for of_cut in phones for phone in of_cut})
        number = {name: index for index, name in enumerate(names)}
        labels = []
        for of_cut, units in zip(phones, self.units, strict=True):
            row = np.full(len(units), -1, np.int64)
            middles = (np.arange(len(units)) + 0.5) * self.step
            for phone in of_cut:
                row[(middles >= phone.begin) & (middles < phone.end)] = number[phone.symbol]
            labels.append(row)
        return labels, names


def choose_cuts(manifest: Path, *, max_seconds: float, unseen_voices: bool) -> list[Cut]:
    """About ``max_seconds`` of a manifest's cuts, drawn by a hash of their ids; with ``unseen_voices``, those marked as not in train.

    Not every n-th: voices that take turns would be left out.
    """
    if not manifest.is_file():
        raise UnitReportError(f"expected a manifest of cuts at {manifest}, found nothing there; run stage 1 of a recipe's prepare.sh")
    cuts = [cut for cut in read_cuts(manifest) if not unseen_voices or _is_unseen(cut)]
    if not cuts:
        which = " by voices that train does not have (supervisions' voice_is_in_train false)" if unseen_voices else ""
        raise UnitReportError(f"expected cuts{which} in {manifest}, found none; name another manifest, or --voices all")
    return draw_cuts(cuts, max_seconds=max_seconds)


def draw_cuts(cuts: Sequence[Cut], *, max_seconds: float) -> list[Cut]:
    """About ``max_seconds`` of cuts by a hash of their ids, in the order given."""
    order = sorted(range(len(cuts)), key=lambda index: blake2b(cuts[index].id.encode(), digest_size=8).digest())
    before = np.cumsum([0.0, *(cuts[index].duration for index in order[:-1])])
    return [cuts[index] for index in sorted(order[: int((before < max_seconds).sum())])]


def encode_cuts(
    tokenizer: SemanticTokenizer, cuts: Sequence[Cut], *, with_features: bool = True, min_confidence: float = 0.0
) -> EncodedCorpus:
    """Units and, where the tokenizer has them, features of every cut, each encoded alone."""
    units, features = [], []
    gives = isinstance(tokenizer, HasFeatures) and with_features
    with torch.inference_mode():
        for cut in cuts:
            samples, rate = read_cut(cut)
            wav = torch.from_numpy(resample(samples, rate, tokenizer.sample_rate))[None]
            lengths = torch.tensor([wav.shape[1]])
            encoded, counts = tokenizer.encode(wav, lengths)
            units.append(encoded[0, : counts[0]].numpy())
            if isinstance(tokenizer, HasFeatures) and with_features:
                features.append(tokenizer.features(wav, lengths)[0, : counts[0]].numpy())
    return EncodedCorpus(
        cuts=list(cuts), units=units, features=np.concatenate(features) if gives else None,
        centroids=tokenizer.centroids.numpy() if isinstance(tokenizer, HasFeatures) else None,
        step=tokenizer.hop_length / tokenizer.sample_rate, num_units=tokenizer.num_units, min_confidence=min_confidence,
    )  # fmt: skip


def phones_of(cut: Cut) -> list[tuple[str, float, float]]:
    """``(symbol, begin, end)`` in seconds from the cut's start, in order; none where the manifest has no phone times."""
    return [phone[:3] for phone in timed_phones(cut)]


def timed_phones(cut: Cut) -> list[TimedPhone]:
    """The same with their confidence."""
    found = [
        TimedPhone(item.symbol, item.start, item.start + item.duration, 1.0 if item.score is None else item.score)
        for supervision in cut.supervisions
        for item in (supervision.alignment or {}).get("phone", [])
    ]
    return sorted((phone for phone in found if phone.end > phone.begin), key=lambda phone: phone.begin)


def speaker_of(cut: Cut) -> str:
    """The speaker that the cut names; empty for none."""
    return next((str(supervision.speaker) for supervision in cut.supervisions if supervision.speaker), "")


def session_of(cut: Cut) -> str:
    """What was recorded together with the cut: LibriSpeech's chapter, or else the recording."""
    recording: str = cut.recording_id
    chapter = LIBRISPEECH_ID.match(recording)
    return chapter[1] if chapter and speaker_of(cut).startswith(chapter[2]) else recording


def frames_within(begin: float, end: float, step: float, count: int) -> tuple[int, int]:
    """First and last (exclusive) of ``count`` frames whose middles lie in ``begin..end`` seconds; the nearest one if none does."""
    first, last = int(np.ceil(begin / step - 0.5)), int(np.ceil(end / step - 0.5))
    if last <= first:
        first = int((begin + end) / 2 / step)
        last = first + 1
    first = min(max(0, first), count - 1)
    return first, min(max(first + 1, last), count)


def _neighbour(phones: Sequence[TimedPhone], index: int, side: int) -> str:
    other = index + side
    if not 0 <= other < len(phones):
        return EDGE
    left, right = sorted((index, other))
    return EDGE if phones[right].begin - phones[left].end > PAUSE else phones[other].symbol


def _is_unseen(cut: Cut) -> bool:
    return any((supervision.custom or {}).get("voice_is_in_train") is False for supervision in cut.supervisions)
