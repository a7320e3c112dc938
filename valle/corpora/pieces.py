"""Pieces of a long recording, which say whether they begin or end it.

A cut that says nothing is a recording, or an utterance, of its own: it holds both ends.
"""

from __future__ import annotations

FIRST_PIECE, LAST_PIECE = "is_first_piece", "is_last_piece"  # of a cut's custom fields


def ends_of_piece(index: int, count: int) -> dict[str, bool]:
    """The custom fields of piece number ``index`` of ``count``; none for a recording that is whole."""
    return {} if count == 1 else {FIRST_PIECE: index == 0, LAST_PIECE: index == count - 1}
