"""Turns of a conversation as the positions that ``ConversationLM`` reads: text pieces, frames, and where the frames to learn stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valle.models.conversation import NO_PIECE
from valle.models.conversation_config import ConversationConfig
from valle.tokenizers.text_pieces import TextTokenizer


@dataclass(frozen=True)
class SpokenTurn:
    """What somebody says: ``codes (T, Q)``, without those that are still to be made of the turn that comes next."""

    speaker: str
    text: str
    codes: NDArray[np.integer]


@dataclass(frozen=True)
class Positions:
    """A row: ``pieces (N,)``, ``codes (N, Q)``; the last turn's frames stand from ``start`` on, the last of them its end."""

    pieces: NDArray[np.int64]
    codes: NDArray[np.int64]
    start: int

    def __len__(self) -> int:
        return len(self.pieces)


class TurnSequences:
    """Makes rows of turns.  A speaker's tag is a number in brackets, by the order in which speakers come up in the row."""

    def __init__(self, config: ConversationConfig, text: TextTokenizer) -> None:
        self.config, self.text = config, text
        self.bos, self.eos = (config.vocabulary.first(name) for name in ("bos", "eos"))

    def row(self, turns: Sequence[SpokenTurn]) -> Positions:
        """All turns, the last one's frames to be learned."""
        return self._joined(turns, is_open=False)

    def prompt(self, turns: Sequence[SpokenTurn]) -> Positions:
        """All turns, the last one's frames still to be made: its row ends behind its text."""
        return self._joined(turns, is_open=True)

    def _joined(self, turns: Sequence[SpokenTurn], *, is_open: bool) -> Positions:
        tags: dict[str, int] = {}
        pieces, codes, start = list[NDArray[np.int64]](), list[NDArray[np.int64]](), 0
        for place, turn in enumerate(turns):
            tag = tags.setdefault(turn.speaker, len(tags))
            said = np.array([self.bos, *self.text.encode(f"[{tag}] {turn.text}"), self.eos], np.int64)
            frames = self._frames(turn.codes)[: 0 if is_open and place == len(turns) - 1 else None]
            start = sum(map(len, pieces)) + len(said)
            pieces += [said, np.full(len(frames), NO_PIECE, np.int64)]
            codes += [np.full((len(said), self.config.num_levels), self.config.missing, np.int64), frames]
        return Positions(np.concatenate(pieces), np.concatenate(codes), start)

    def _frames(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Codes ``(T, Q)`` and the frame that ends a turn, which has level 0 alone."""
        end = np.full((1, self.config.num_levels), self.config.missing, np.int64)
        end[0, 0] = self.config.end
        return np.concatenate([codes[:, : self.config.num_levels].astype(np.int64), end])
