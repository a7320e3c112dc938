"""What a language suite is made of: pairs of recordings, of which one is right.

Pairs that were made together, such as the two of a crossed quadruple, share a block: accuracies are means over blocks, and intervals
resample blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from valle.errors import UserError


class LanguageItemsError(UserError):
    """Items that are missing, incomplete or damaged."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One recording of a pair.

    ``prompt_seconds`` is where the two begin to differ, None where they do from the start; ``symbols`` are the words that are said, or
    the phonemes of an item that is about phonemes, and empty where nobody knows; ``trigram_nats`` is how unlikely a trigram of phonemes
    that does not know the item's words finds them.
    """

    audio: Path
    prompt_seconds: float | None = None
    symbols: tuple[str, ...] = ()
    trigram_nats: float | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A right recording and a wrong one; ``suite`` and ``group`` say what decides between them."""

    id: str
    block: str
    suite: str
    group: str
    right: Side
    wrong: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.right, self.wrong


def refuse_bad_pairs(pairs: Sequence[Pair], source: str) -> None:
    """Raises :class:`LanguageItemsError` for no pairs, an id twice, and a recording that is not there."""
    if not pairs:
        raise LanguageItemsError(f"expected pairs of recordings in {source}, found none; name another folder, or make the items again")
    seen: set[str] = set()
    for pair in pairs:
        if pair.id in seen:
            raise LanguageItemsError(f"expected every id once in {source}, found {pair.id} twice; make or fetch the items again")
        seen.add(pair.id)
        for side in pair.sides:
            if not side.audio.is_file():
                raise LanguageItemsError(f"expected the recording {side.audio} of {pair.id}, found none; make or fetch the items again")
