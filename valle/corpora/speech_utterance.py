"""One utterance of a synthesised corpus: whose turn it is, which text is said, and its line in the index.

All is a function of (settings, part, number).  Training voices take turns; in test, every second utterance has a voice that only
test has.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from valle.corpora.espeak_grammar import words_of
from valle.corpora.speech import Span, Speech
from valle.corpora.speech_config import CorpusConfigError, CorpusSize, SpeechConfig

SENTENCE_SECONDS = 3.5  # about what one sentence takes
MAX_DRAWS = 200


class NamedVoice(Protocol):
    """A voice of a corpus: a frozen dataclass of plain types."""

    @property
    def name(self) -> str: ...


DrawText = Callable[[random.Random, int], str]
VoiceType = TypeVar("VoiceType", bound=NamedVoice)


@dataclass(frozen=True, kw_only=True)
class SpokenUtterance(ABC, Generic[VoiceType]):
    """What the index says of one audio file; ``path`` is relative to the corpus's folder.

    A corpus that says more adds fields of plain types and names them in ``OWN_FIELDS``.
    """

    OWN_FIELDS: ClassVar[tuple[str, ...]] = ()

    id: str
    part: str
    path: str
    text: str
    voice: VoiceType
    voice_is_in_train: bool
    num_samples: int
    words: tuple[Span, ...]
    phones: tuple[Span, ...]

    @staticmethod
    @abstractmethod
    def parse_voice(fields: dict[str, Any]) -> VoiceType:
        """The voice of which ``fields`` were written."""

    @classmethod
    def of(cls, part: str, number: int, *, text: str, speech: Speech, voice: VoiceType, voice_is_in_train: bool, **own: Any) -> Self:
        """Utterance ``number`` of ``part``; ``own`` are the fields of ``OWN_FIELDS``."""
        identifier = identifier_of(part, number)
        return cls(
            id=identifier,
            part=part,
            path=f"audio/{part}/{voice.name}/{identifier}.wav",
            text=text,
            voice=voice,
            voice_is_in_train=voice_is_in_train,
            num_samples=len(speech.samples),
            words=speech.words,
            phones=speech.phones,
            **own,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types; spans are ``[symbol, start, duration]`` in seconds."""
        return {
            **{name: getattr(self, name) for name in (*_PLAIN_FIELDS, *self.OWN_FIELDS)},
            "voice": asdict(self.voice),  # type: ignore[call-overload]  # a frozen dataclass, which no protocol can say
            "words": [[span.symbol, span.start, span.duration] for span in self.words],
            "phones": [[span.symbol, span.start, span.duration] for span in self.phones],
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The utterance of which ``fields`` were written."""
        return cls(
            **{name: fields[name] for name in (*_PLAIN_FIELDS, *cls.OWN_FIELDS)},
            voice=cls.parse_voice(fields["voice"]),
            words=tuple(Span(symbol=symbol, start=start, duration=length) for symbol, start, length in fields["words"]),
            phones=tuple(Span(symbol=symbol, start=start, duration=length) for symbol, start, length in fields["phones"]),
        )


_PLAIN_FIELDS = ("id", "part", "path", "text", "voice_is_in_train", "num_samples")


def identifier_of(part: str, number: int) -> str:
    """The id of utterance ``number`` of ``part``."""
    return f"{part}-{number:08d}"


def whose_turn(config: CorpusSize, *, part: str, number: int) -> tuple[int, bool]:
    """The index of an utterance's voice among train's or among the held-out ones, and whether train has it."""
    if part != "test":
        return number % config.num_voices, True
    turn, is_training_voice = divmod(number, 2)
    return (turn % config.num_voices, True) if is_training_voice else (turn % config.num_test_voices, False)


def speak_text(
    config: SpeechConfig, *, part: str, number: int, voice_name: str, draw: DrawText, speak: Callable[[str, str], Speech]
) -> tuple[str, Speech]:
    """The text of utterance ``number`` of ``part`` and its speech: texts are drawn until one lasts as long as the settings want.

    A text of which the synthesiser times two words as one is drawn again, too.  ``draw(rng, num_sentences)`` gives a text;
    ``speak(text, name)`` gets a name of the attempt, to seed what is random in the sound.
    """
    fewest, most = (max(1, int(limit / SENTENCE_SECONDS)) for limit in (config.min_seconds, config.max_seconds))
    for attempt in range(MAX_DRAWS):
        name = f"{config.seed} {part} utterance {number} draw {attempt}"
        rng = random.Random(name)
        text = draw(rng, fewest + int(rng.random() * (most - fewest + 1)))
        speech = speak(text, name)
        is_timed = not speech.words or [word.symbol for word in speech.words] == words_of(text)
        if is_timed and config.min_seconds <= speech.seconds <= config.max_seconds:
            return text, speech
    raise CorpusConfigError(
        f"expected a text of {config.min_seconds:g} to {config.max_seconds:g} s among {MAX_DRAWS}, found none for "
        f"the voice {voice_name}; widen --min-seconds and --max-seconds"
    )
