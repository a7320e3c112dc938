"""Tokenized dialogues, held in memory: by channel its units and codes on one time, and its turns with their texts and word times.

A dialogue is all cuts of one recording, a cut a channel; a cut's supervisions are that channel's turns.  An hour of two channels takes
about 7 megabytes with 8 codebooks at 50 Hz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np
from lhotse import SupervisionSegment
from lhotse.cut import Cut
from numpy.typing import NDArray

from valle.data.dataset import read_tokens
from valle.tokenizing.token_manifests import ManifestError, TokenManifests

BACK_CHANNEL = "back-channel"
PAD = Fraction(6, 100)  # seconds of sound around a turn that belong to it


@dataclass(frozen=True)
class Word:
    """What is said from ``start`` to ``end``, seconds from the dialogue's start; words that are said as one share an entry."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True)
class Turn:
    """What a channel says at once; times are seconds from the dialogue's start."""

    id: str
    channel: int
    speaker: str
    text: str
    kind: str  # question, answer, back-channel; empty where the corpus does not say
    start: float
    end: float
    words: tuple[Word, ...]
    codes: NDArray[np.int16]  # (T, Q) of its time and a little around it


@dataclass(frozen=True)
class Channel:
    """One voice of a dialogue, speaking or silent; all channels of a dialogue begin together."""

    units: NDArray[np.int16]  # (T_u,), empty without units
    codes: NDArray[np.int16]  # (T, Q)
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Dialogue:
    """The channels of one recording."""

    id: str
    channels: tuple[Channel, ...]

    @property
    def turns(self) -> list[Turn]:
        """Of all channels, by their start."""
        return sorted((turn for channel in self.channels for turn in channel.turns), key=lambda turn: (turn.start, turn.channel))


def read_dialogues(manifests: TokenManifests, part: str, *, num_quantizers: int) -> list[Dialogue]:
    """The dialogues of ``part`` whose turns have texts, by id; raises ``ManifestError`` where there are none."""
    found: dict[str, dict[int, Channel]] = {}
    step = manifests.timeline.codes.step
    for cut in manifests.cuts(part):
        tokens = read_tokens(cut, manifests, num_quantizers)
        number = cut.channel if isinstance(cut.channel, int) else 0
        codes = tokens.codes.astype(np.int16)
        turns = [_turn(cut, said, number, codes, step) for said in cut.supervisions if (said.text or "").strip()]
        channel = Channel(units=tokens.units.astype(np.int16), codes=codes, turns=tuple(turn for turn in turns if len(turn.codes)))
        found.setdefault(cut.recording.id, {})[number] = channel
    dialogues = [
        Dialogue(name, tuple(channel for _, channel in sorted(channels.items())))
        for name, channels in sorted(found.items()) if any(channel.turns for channel in channels.values())
    ]  # fmt: skip
    if not dialogues:
        raise ManifestError(
            f"expected cuts with transcripts in the part {part} of {manifests.folder}, found none; use a corpus with texts, such as "
            "egs/espeak_dialogue"
        )
    return dialogues


def _turn(cut: Cut, said: SupervisionSegment, channel: int, codes: NDArray[np.int16], step: Fraction) -> Turn:
    start, end = (Fraction(time).limit_denominator(1_000_000) for time in (said.start, said.end))
    first = max(0, floor((start - PAD) / step))
    words = [Word(item.symbol, item.start, item.end) for item in (said.alignment or {}).get("word", [])]
    return Turn(
        id=said.id, channel=channel, speaker=said.speaker or f"{cut.recording.id}-{channel}", text=said.text,
        kind=str((said.custom or {}).get("kind", "")), start=said.start, end=said.end, words=tuple(words),
        codes=codes[first : ceil((end + PAD) / step)],
    )  # fmt: skip


def turns_that_count(dialogue: Dialogue, keep: Callable[[Turn], bool] = lambda turn: turn.kind != BACK_CHANNEL) -> list[Turn]:
    """The turns in order, without those that a listener says meanwhile."""
    return [turn for turn in dialogue.turns if keep(turn)]
