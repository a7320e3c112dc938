"""One utterance of the embedded corpus as a function of (settings, part, number), and its line in the index."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

from valle.corpora.espeak_config import EspeakConfig, EspeakConfigError
from valle.corpora.espeak_grammar import draw_text, words_of
from valle.corpora.espeak_synthesiser import Span, Speaker, Speech
from valle.corpora.espeak_voices import Voice, held_out_voice, training_voice

SENTENCE_SECONDS = 3.5  # about what one sentence takes
MAX_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """What the index says of one audio file; ``path`` is relative to the corpus's folder."""

    id: str
    part: str
    path: str
    text: str
    voice: Voice
    voice_is_in_train: bool
    num_samples: int
    words: tuple[Span, ...]
    phones: tuple[Span, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types; spans are ``[symbol, start, duration]`` in seconds."""
        return {
            **{name: getattr(self, name) for name in _PLAIN_FIELDS},
            "voice": asdict(self.voice),
            "words": [[span.symbol, span.start, span.duration] for span in self.words],
            "phones": [[span.symbol, span.start, span.duration] for span in self.phones],
        }

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> Utterance:
        return Utterance(
            **{name: fields[name] for name in _PLAIN_FIELDS},
            voice=Voice(**fields["voice"]),
            words=tuple(Span(symbol=symbol, start=start, duration=length) for symbol, start, length in fields["words"]),
            phones=tuple(Span(symbol=symbol, start=start, duration=length) for symbol, start, length in fields["phones"]),
        )


_PLAIN_FIELDS = ("id", "part", "path", "text", "voice_is_in_train", "num_samples")


def speak_utterance(config: EspeakConfig, *, part: str, number: int, speaker: Speaker) -> tuple[Utterance, Speech]:
    """Utterance ``number`` of ``part``: texts are drawn until one lasts as long as the settings want.

    A text of which eSpeak times two words as one is drawn again, too.
    """
    voice, voice_is_in_train = voice_of(config, part=part, number=number)
    fewest, most = (max(1, int(limit / SENTENCE_SECONDS)) for limit in (config.min_seconds, config.max_seconds))
    for draw in range(MAX_DRAWS):
        rng = random.Random(f"{config.seed} {part} utterance {number} draw {draw}")
        text = draw_text(rng, part=part, num_sentences=fewest + int(rng.random() * (most - fewest + 1)))
        speech = speaker.speak(text, voice)
        is_timed = [word.symbol for word in speech.words] == words_of(text)
        if is_timed and config.min_seconds <= speech.seconds <= config.max_seconds:
            break
    else:
        raise EspeakConfigError(
            f"expected a text of {config.min_seconds:g} to {config.max_seconds:g} s among {MAX_DRAWS}, found none for "
            f"the voice {voice.name}; widen --min-seconds and --max-seconds"
        )
    identifier = f"{part}-{number:08d}"
    utterance = Utterance(
        id=identifier,
        part=part,
        path=f"audio/{part}/{voice.name}/{identifier}.wav",
        text=text,
        voice=voice,
        voice_is_in_train=voice_is_in_train,
        num_samples=len(speech.samples),
        words=speech.words,
        phones=speech.phones,
    )
    return utterance, speech


def voice_of(config: EspeakConfig, *, part: str, number: int) -> tuple[Voice, bool]:
    """The voice of an utterance, and whether train has it: voices take turns, in test the two kinds alternate."""
    if part != "test":
        return training_voice(number % config.num_voices, seed=config.seed), True
    turn, is_training_voice = divmod(number, 2)
    if is_training_voice:
        return training_voice(turn % config.num_voices, seed=config.seed), True
    return held_out_voice(turn % config.num_test_voices, seed=config.seed), False
