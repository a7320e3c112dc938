"""Texts to phones, word by word, as eSpeak NG says them in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from valle.corpora.espeak_synthesiser import EspeakSynthesiser
from valle.corpora.espeak_voices import training_voice
from valle.corpora.pronunciation import Pronouncer, PronunciationError


@pytest.fixture(scope="module")
def pronouncer() -> Iterator[Pronouncer]:
    with Pronouncer("en-us") as opened:
        yield opened


def test_every_word_has_its_phones_and_small_words_are_weak(pronouncer: Pronouncer) -> None:
    words = pronouncer.pronounce("Anna saw a tall man")
    assert [(word.text, " ".join(word.phones)) for word in words] == [
        ("anna", "æ n ə"), ("saw", "s ɔː"), ("a", "ɐ"), ("tall", "t ɔː l"), ("man", "m æ n"),
    ]  # fmt: skip


def test_upper_case_is_no_abbreviation(pronouncer: Pronouncer) -> None:
    assert pronouncer.pronounce("LET US GO") == pronouncer.pronounce("let us go")
    assert [word.text for word in pronouncer.pronounce("LET US GO")] == ["let", "us", "go"]


def test_a_capital_after_a_stop_begins_a_sentence(pronouncer: Pronouncer) -> None:
    assert [word.text for word in pronouncer.pronounce("A man met a tall man. Anna saw a man.")][5:7] == ["man", "anna"]


def test_words_that_are_said_as_one_come_as_one(pronouncer: Pronouncer) -> None:
    words = pronouncer.pronounce("one of the men")
    assert " ".join(word.text for word in words) == "one of the men" and "of the" in {word.text for word in words}
    assert all(word.phones for word in words)


def test_an_apostrophe_stays_within_its_word(pronouncer: Pronouncer) -> None:
    words = pronouncer.pronounce("I don't know the patient's name")
    assert [word.text for word in words] == ["i", "don't", "know", "the", "patient's", "name"]
    assert words[4].phones[-1] == "s"


def test_phones_are_those_that_are_heard(pronouncer: Pronouncer) -> None:
    text = "the old king sold seven red apples to my brother"
    with EspeakSynthesiser() as synthesiser:
        voice = training_voice(0, seed=0)
        assert voice.accent == "en-us"
        heard = [span.symbol for span in synthesiser.speak(text, voice).phones]
    assert [symbol for word in pronouncer.pronounce(text) for symbol in word.phones] == heard


def test_another_language_is_another_accent() -> None:
    with Pronouncer("de") as german:
        assert german.pronounce("Straße")[0].phones[0] == "ʃ"


def test_an_accent_that_is_not_there_is_refused() -> None:
    with Pronouncer("xx-nowhere") as nobody, pytest.raises(PronunciationError, match=r"'xx-nowhere'.*--accent"):
        nobody.pronounce("hello")
