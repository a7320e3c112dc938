"""The parallel corpus: its settings, and one utterance of it as a function of (settings, part, number).

With L languages, utterances ``L s .. L s + L - 1`` are sentence ``s`` in each of them, by one voice: the same variant, pitch, range
and rate of eSpeak NG, with the language's own accent.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, ClassVar

from valle.corpora.espeak_grammar import words_of
from valle.corpora.espeak_synthesiser import Speaker
from valle.corpora.espeak_utterance import Utterance
from valle.corpora.espeak_voices import Voice, held_out_voice, training_voice
from valle.corpora.parallel_grammar import Language, draw_sentence, find_languages, lexicon, say
from valle.corpora.speech import Span, Speech
from valle.corpora.speech_config import CorpusConfigError, CorpusSize
from valle.corpora.speech_utterance import MAX_DRAWS, identifier_of, whose_turn

GENERATOR_VERSION = 1  # raise it with every change of the code that changes the audio, the texts or the index
LETTERS_A_SECOND = 11  # the slowest voice says more


@dataclass(frozen=True, kw_only=True)
class EspeakTextConfig(CorpusSize):
    """What to synthesise: hours and minutes are of all languages together."""

    languages: str = "en,es"
    max_seconds: float = 8.0
    seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        find_languages(self.languages)
        if not 5 <= self.max_seconds <= 60:
            raise CorpusConfigError(
                f"--max-seconds must lie within 5..60, found {self.max_seconds:g}; a sentence in four languages takes up to about 8"
            )

    @property
    def utterances_together(self) -> int:
        """Utterances of one sentence, none of which a part has without the others."""
        return len(find_languages(self.languages))

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the corpus's bytes; a change of any entry regenerates it."""
        lexicons = [lexicon(language.code) for language in find_languages(self.languages)]
        return {
            **asdict(self),
            "generator_version": GENERATOR_VERSION,
            "grammar": hashlib.blake2b(repr(lexicons).encode(), digest_size=8).hexdigest(),
            "espeakng_loader": version("espeakng-loader"),
        }


@dataclass(frozen=True, kw_only=True)
class ParallelUtterance(Utterance):
    """An utterance whose sentence others say in other languages."""

    OWN_FIELDS: ClassVar[tuple[str, ...]] = ("language", "sentence", "translations")

    language: str  # such as English
    sentence: str  # id of what is said, the same in all languages
    translations: dict[str, dict[str, str]]  # by language: the text, and the id of its utterance


def speak_parallel(config: EspeakTextConfig, *, part: str, number: int, speaker: Speaker) -> tuple[ParallelUtterance, Speech]:
    """Utterance ``number`` of ``part`` and its speech."""
    languages = find_languages(config.languages)
    sentence, place = divmod(number, len(languages))
    texts = draw_texts(config, part=part, sentence=sentence)
    voice, voice_is_in_train = voice_of(config, part=part, sentence=sentence, language=languages[place])
    speech = speaker.speak(texts[place], voice)
    speech = replace(speech, words=timed_words(texts[place], speech.words))
    first = sentence * len(languages)
    utterance = ParallelUtterance.of(
        part, number, text=texts[place], speech=speech, voice=voice, voice_is_in_train=voice_is_in_train,
        language=languages[place].name, sentence=f"{part}-sentence-{sentence:08d}",
        translations={
            language.name: {"id": identifier_of(part, first + other), "text": texts[other]}
            for other, language in enumerate(languages) if other != place
        },
    )  # fmt: skip
    return utterance, speech


def draw_texts(config: EspeakTextConfig, *, part: str, sentence: int) -> list[str]:
    """Sentence number ``sentence`` of ``part`` in every language, in their order: drawn until all say it within ``max_seconds``.

    Lengths are judged by letters, so that nothing need be spoken: the slowest voice says LETTERS_A_SECOND or more.
    """
    languages = find_languages(config.languages)
    for draw in range(MAX_DRAWS):
        rng = random.Random(f"{config.seed} {part} sentence {sentence} draw {draw}")
        meaning = draw_sentence(rng, part=part)
        texts = [say(meaning, language.code) for language in languages]
        if max(map(len, texts)) <= LETTERS_A_SECOND * config.max_seconds:
            return texts
    raise CorpusConfigError(f"expected a sentence within {config.max_seconds:g} s among {MAX_DRAWS}, found none; raise --max-seconds")


def voice_of(config: EspeakTextConfig, *, part: str, sentence: int, language: Language) -> tuple[Voice, bool]:
    """The voice of a sentence with the language's accent, and whether train has it: voices take turns, in test both kinds alternate."""
    index, is_in_train = whose_turn(config, part=part, number=sentence)
    voice = (training_voice if is_in_train else held_out_voice)(index, seed=config.seed)
    kind, number = voice.name.split("-")[:2]
    return replace(voice, name=f"{kind}-{number}-{voice.variant}", accent=language.accent), is_in_train


def timed_words(text: str, timed: Sequence[Span]) -> tuple[Span, ...]:
    """All words of ``text`` with their times; words that eSpeak NG says and times as one ("of the") share an item.

    ``timed`` are those of the words that have a time of their own.
    """
    names: list[list[str]] = []
    waiting: list[str] = []
    for word in words_of(text):
        if len(names) < len(timed) and timed[len(names)].symbol == word:
            names.append([*waiting, word])
            waiting = []
        elif names:
            names[-1].append(word)
        else:
            waiting.append(word)
    if len(names) != len(timed):
        return ()
    return tuple(replace(span, symbol=" ".join(words)) for span, words in zip(timed, names, strict=True))
