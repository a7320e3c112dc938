"""Tokens in named ranges."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """Named ranges of tokens, one after another, so that no two meanings share a row of a table."""

    ranges: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        return sum(count for _, count in self.ranges)

    def first(self, name: str) -> int:
        """The number of the range's first token."""
        start = 0
        for label, count in self.ranges:
            if label == name:
                return start
            start += count
        raise KeyError(name)
