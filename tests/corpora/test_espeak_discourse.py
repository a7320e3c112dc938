"""Stories of the embedded corpus: what they share, and that nothing else changed."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valle.corpora.espeak_config import EspeakConfig, EspeakConfigError
from valle.corpora.espeak_discourse import COUNTABLE, DAYS, PAST_OF, draw_discourse, draw_story
from valle.corpora.espeak_grammar import PARTS, RULES, draw_text, lexicon, part_of, words_of
from valle.corpora.espeak_synthesiser import Span, Speech
from valle.corpora.espeak_utterance import speak_utterance
from valle.corpora.espeak_voices import Voice
from valle.corpora.espeak_withheld import WITHHELD, withheld_words

seeds = st.integers(0, 2**32)


@given(seeds, st.sampled_from(PARTS), st.sampled_from((2, 3)))
def test_a_story_is_of_the_lexicon_and_belongs_to_its_part(seed: int, part: str, num_sentences: int) -> None:
    text = draw_discourse(random.Random(seed), part=part, num_sentences=num_sentences)
    assert set(words_of(text)) <= lexicon()
    assert text.count(".") == num_sentences and part_of(text) == part


@given(seeds)
def test_a_storys_last_day_follows_its_first(seed: int) -> None:
    text = draw_discourse(random.Random(seed), part="train", num_sentences=2)
    first, last = (word for word in text.replace(".", "").split() if word in DAYS)
    assert DAYS.index(last) == (DAYS.index(first) + 1) % 7


@given(seeds)
def test_the_ending_names_facts_of_the_beginning(seed: int) -> None:
    story = draw_story(random.Random(seed))
    beginning = words_of(story.beginning())
    assert {word.lower() for word in (story.person, story.thing, story.place, story.day, story.colour)} <= set(beginning)
    assert {story.person.lower(), story.thing} <= set(words_of(story.ending("person")))
    assert story.place in words_of(story.ending("place"))


def test_other_numbers_of_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="2 or 3"):
        draw_discourse(random.Random(0), part="train", num_sentences=1)


def test_forms_of_a_word_belong_together() -> None:
    assert PAST_OF["find"] == "found" and PAST_OF["steal"] == "stole" and PAST_OF["order"] == "ordered"
    assert ("box", "boxes") in COUNTABLE and ("potato", "potatoes") in COUNTABLE and len(COUNTABLE) >= 40


class Recorder:
    """Notes what it is asked to say, and says it in no time."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def speak(self, text: str, voice: Voice) -> Speech:
        self.texts.append(text)
        words = tuple(Span(symbol=word, start=0.0, duration=0.1) for word in words_of(text))
        return Speech(samples=np.zeros(6 * 16_000, np.int16), words=words, phones=())


def texts_of(config: EspeakConfig, *, part: str = "train", count: int = 40) -> list[str]:
    recorder = Recorder()
    for number in range(count):
        speak_utterance(config, part=part, number=number, speaker=recorder)
    return recorder.texts


def test_the_recipes_seed_says_what_it_always_said() -> None:
    """The default draws as many numbers as before, in the same order."""
    expected = []
    for number in range(5):
        rng = random.Random(f"42 train utterance {number} draw 0")
        expected.append(draw_text(rng, part="train", num_sentences=1 + int(rng.random() * 3)))
    assert texts_of(EspeakConfig(), count=5) == expected


def test_later_settings_do_not_change_the_fingerprint_of_an_earlier_corpus() -> None:
    assert {"texts", "withheld_words"}.isdisjoint(EspeakConfig().fingerprint())
    assert EspeakConfig(texts="mixed").fingerprint()["texts"] == "mixed"


def test_mixed_texts_are_stories_half_of_the_time_for_every_voice() -> None:
    stories = [text.startswith("On ") and len(set(DAYS) & set(text.replace(".", "").split())) == 2
               for text in texts_of(EspeakConfig(texts="mixed"), count=400)]  # fmt: skip
    assert 0.4 < sum(stories) / len(stories) < 0.6
    assert all(0 < sum(stories[voice::8]) < len(stories[voice::8]) for voice in range(8))
    assert all(text.startswith("On ") for text in texts_of(EspeakConfig(texts="discourse")))


@pytest.mark.parametrize("texts", ["sentences", "mixed"])
def test_withheld_words_are_said_in_test_alone(texts: str) -> None:
    config = EspeakConfig(texts=texts, withheld_words=0.3)  # type: ignore[arg-type]
    withheld = withheld_words(0.3, seed=config.seed)
    said = {part: set(words_of(" ".join(texts_of(config, part=part)))) for part in PARTS}
    assert not withheld & said["train"] and not withheld & said["dev"]
    assert withheld & said["test"]


def test_withheld_words_go_with_their_other_forms() -> None:
    withheld = withheld_words(0.3, seed=42)
    assert withheld and withheld < lexicon()
    assert all((one in withheld) == (many in withheld) for one, many in (*COUNTABLE, *PAST_OF.items()))
    assert not withheld_words(0.0, seed=42)


def test_words_beyond_the_corpus_are_none_of_its() -> None:
    assert all(not set(words) & lexicon() and len(set(words)) == len(words) for words in WITHHELD.values())
    assert WITHHELD.keys() <= RULES.keys()


@pytest.mark.parametrize("settings", [{"texts": "poems"}, {"texts": "mixed", "max_seconds": 8.0}, {"withheld_words": 0.9}])
def test_what_cannot_be_said_is_refused(settings: dict) -> None:
    with pytest.raises(EspeakConfigError, match=next(iter(settings)).split("_")[0]):
        EspeakConfig(**settings)
