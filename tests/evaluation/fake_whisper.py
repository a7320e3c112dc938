"""What stands for ``faster_whisper.WhisperModel`` in tests: it answers with given texts, one a clip, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np


def segment(text: str, *, log_probability: float = -0.3, compression: float = 1.3, no_speech: float = 0.1) -> SimpleNamespace:
    """With the names of faster-whisper 1.2."""
    return SimpleNamespace(text=text, avg_logprob=log_probability, compression_ratio=compression, no_speech_prob=no_speech)


class FakeWhisper:
    def __init__(self, answer: Callable[[np.ndarray], list[SimpleNamespace]]) -> None:
        self.answer, self.asked = answer, list[dict[str, Any]]()

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[Iterator[SimpleNamespace], SimpleNamespace]:
        self.asked.append({"samples": len(audio), **options})
        return iter(self.answer(audio)), SimpleNamespace(language="en")
