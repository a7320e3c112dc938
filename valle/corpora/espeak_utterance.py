"""One utterance of the embedded corpus as a function of (settings, part, number), and its line in the index."""

from __future__ import annotations

import random
from typing import Any

from valle.corpora.espeak_config import EspeakConfig
from valle.corpora.espeak_discourse import draw_discourse
from valle.corpora.espeak_grammar import draw_text
from valle.corpora.espeak_synthesiser import Speaker
from valle.corpora.espeak_voices import Voice, held_out_voice, training_voice
from valle.corpora.espeak_withheld import withheld_words
from valle.corpora.speech import Speech
from valle.corpora.speech_utterance import SpokenUtterance, speak_text, whose_turn


class Utterance(SpokenUtterance[Voice]):
    """An utterance by eSpeak NG."""

    @staticmethod
    def parse_voice(fields: dict[str, Any]) -> Voice:
        return Voice(**fields)


def speak_utterance(config: EspeakConfig, *, part: str, number: int, speaker: Speaker) -> tuple[Utterance, Speech]:
    """Utterance ``number`` of ``part`` and its speech."""
    voice, is_in_train = voice_of(config, part=part, number=number)

    def draw(rng: random.Random, num_sentences: int) -> str:
        return _draw_text(config, rng, part=part, number=number, num_sentences=num_sentences)

    text, speech = speak_text(
        config, part=part, number=number, voice_name=voice.name, draw=draw, speak=lambda text, _: speaker.speak(text, voice)
    )
    return Utterance.of(part, number, text=text, speech=speech, voice=voice, voice_is_in_train=is_in_train), speech


def _draw_text(config: EspeakConfig, rng: random.Random, *, part: str, number: int, num_sentences: int) -> str:
    """Unrelated sentences or, where the settings want stories, a story of two or three; test alone says words that are withheld."""
    withheld = frozenset[str]() if part == "test" else withheld_words(config.withheld_words, seed=config.seed)
    is_story = config.texts == "discourse"
    if config.texts == "mixed":
        is_story = random.Random(f"{config.seed} {part} texts {number}").random() < 0.5
    if is_story:
        return draw_discourse(rng, part=part, num_sentences=2 + int(rng.random() * 2), withheld=withheld)
    return draw_text(rng, part=part, num_sentences=num_sentences, withheld=withheld)


def voice_of(config: EspeakConfig, *, part: str, number: int) -> tuple[Voice, bool]:
    """The voice of an utterance, and whether train has it."""
    index, is_in_train = whose_turn(config, part=part, number=number)
    return (training_voice if is_in_train else held_out_voice)(index, seed=config.seed), is_in_train
