"""Settings that every synthesised corpus has, and its errors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from valle.corpora.espeak_grammar import PARTS
from valle.errors import UserError


class CorpusConfigError(UserError, ValueError):
    """A setting of a synthesised corpus that cannot be met."""


class CorpusDirectoryError(UserError, ValueError):
    """A folder that does not hold what it should."""


@dataclass(frozen=True, kw_only=True)
class CorpusSize(ABC):
    """How much to synthesise, and by how many.  Lengths are of speech, the pauses between sentences included.

    ``num_hours`` is train's; about 8 keep a small model from overfitting within minutes.  ``num_voices`` speak in
    train, dev and half of test, and ``num_test_voices`` others in the other half of test.
    """

    num_hours: float = 8.0
    dev_minutes: float = 10.0
    test_minutes: float = 20.0
    num_voices: int = 40
    num_test_voices: int = 8

    def __post_init__(self) -> None:
        for name in ("num_hours", "dev_minutes", "test_minutes"):
            if not 0 < getattr(self, name) < math.inf:
                raise CorpusConfigError(f"{_flag(name)} must be above 0 and finite, found {getattr(self, name):g}; give a duration")
        for name in ("num_voices", "num_test_voices"):
            if getattr(self, name) < 1:
                raise CorpusConfigError(f"{_flag(name)} must be at least 1, found {getattr(self, name)}; give a number of voices")

    @property
    def utterances_together(self) -> int:
        """Utterances ``k n .. k n + n - 1`` of a part are there together or not at all: ``n``."""
        return 1

    def seconds_of(self, part: str) -> float:
        """The least duration of a part, in seconds."""
        seconds = {"train": 3600 * self.num_hours, "dev": 60 * self.dev_minutes, "test": 60 * self.test_minutes}
        return seconds[part]

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds_of(part) for part in PARTS)

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """All that decides the corpus's bytes; a change of any entry regenerates it."""


@dataclass(frozen=True, kw_only=True)
class SpeechConfig(CorpusSize):
    """Settings of a corpus whose utterances are texts of a wanted duration."""

    min_seconds: float = 3.0
    max_seconds: float = 12.0
    seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.min_seconds >= 1.0 and self.min_seconds + 3.0 <= self.max_seconds <= 60.0):
            raise CorpusConfigError(
                f"utterances must last from --min-seconds >= 1 to --max-seconds <= 60, at least 3 s apart, found "
                f"{self.min_seconds:g} to {self.max_seconds:g}; widen the range"
            )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
