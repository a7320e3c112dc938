"""What a synthesiser is to the recipe: a name, base voices, and speakers that turn a text into sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from valle.corpora.speech import Span


@dataclass(frozen=True, kw_only=True)
class SynthesiserOptions:
    """What the synthesisers need to be told."""

    kokoro_dir: Path | None = field(default=None, metadata={"help": "kokoro: folder with one .onnx file and voices/NAME.bin"})
    command: str = field(
        default="", metadata={"help": "command: a command line with {output}, and {text}, {voice}, {speed}, {seed} as it takes them"}
    )
    command_voices: str = field(default="", metadata={"help": "command: what {voice} is replaced by, separated by commas"})
    command_seconds: float = field(default=60.0, metadata={"help": "command: seconds after which a call of it is given up"})


@dataclass(frozen=True, kw_only=True)
class BaseVoice:
    """A voice as the synthesiser itself has it.  ``settings`` are plain types that only the synthesiser reads."""

    name: str
    is_female: bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sound:
    """What was spoken.  ``samples``: (T,) float32 at ``sample_rate`` Hz; times of words and phones where they are known."""

    samples: NDArray[np.float32]
    sample_rate: int
    words: tuple[Span, ...] = ()
    phones: tuple[Span, ...] = ()


class Speaker(Protocol):
    """A loaded synthesiser.  One thread has one."""

    def speak(self, text: str, voice: BaseVoice, *, speed: float, seed: int) -> Sound:
        """``text`` at ``speed`` times the usual tempo.  The sound depends on nothing but the arguments."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: Any) -> None: ...


class Synthesiser(Protocol):
    """A synthesiser by name; cheap to make, and made only where the synthesiser is usable here."""

    @property
    def name(self) -> str: ...

    @property
    def has_speed(self) -> bool:
        """Does ``speed`` change the tempo?"""
        ...

    @property
    def is_multiplied(self) -> bool:
        """Are its base voices so few that a voice's pitch, formants and tempo are changed?"""
        ...

    def base_voice(self, index: int, *, is_held_out: bool, seed: int) -> BaseVoice:
        """Base voice of training voice or held-out voice ``index``, without end."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """All of the synthesiser that decides the sound."""
        ...

    def open(self) -> Speaker:
        """A speaker for one thread, to be used as a context manager."""
        ...


def share_out(names: Sequence[str], *, is_held_out: bool) -> list[str]:
    """Names of the training voices or of the held-out ones: of six names or more every sixth is held out.

    Fewer are too few to give any away; then both have all of them, and differ by pitch and formants.
    """
    if len(names) < 6:
        return list(names)
    return [name for position, name in enumerate(sorted(names)) if (position % 6 == 5) == is_held_out]
