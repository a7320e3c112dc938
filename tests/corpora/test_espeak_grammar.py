"""Texts of the embedded corpus: a known lexicon, parts that share nothing, variety."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from valle.corpora.espeak_grammar import PARTS, draw_sentence, draw_text, lexicon, part_of, words_of

seeds = st.integers(0, 2**32)


@given(seeds)
def test_every_word_is_in_the_lexicon(seed: int) -> None:
    assert set(words_of(draw_sentence(random.Random(seed)))) <= lexicon()


def test_the_lexicon_has_a_few_hundred_words_and_no_symbols() -> None:
    assert 300 <= len(lexicon()) <= 700
    assert not {"sentence", "colour", "quality", "item", "items", "conjunction"} & lexicon()


@given(seeds)
def test_a_sentence_reads_as_one(seed: int) -> None:
    sentence = draw_sentence(random.Random(seed))
    assert sentence[0].isupper()
    assert sentence[-1] in ".?"
    words = words_of(sentence)
    assert all((article == "an") == (word[0] in "aeiou") for article, word in itertools.pairwise(words) if article in ("a", "an"))


@given(seeds, st.sampled_from(PARTS), st.integers(1, 4))
def test_all_sentences_of_a_text_belong_to_its_part_alone(seed: int, part: str, num_sentences: int) -> None:
    text = draw_text(random.Random(seed), part=part, num_sentences=num_sentences)
    sentences = [sentence + "." for sentence in text.replace("?", ".").split(".") if sentence.strip()]
    assert len(sentences) == num_sentences
    assert {part_of(sentence) for sentence in sentences} == {part}


def test_parts_take_their_share_of_sentences() -> None:
    rng = random.Random(0)
    parts = [part_of(draw_sentence(rng)) for _ in range(4000)]
    assert 0.78 < parts.count("train") / len(parts) < 0.85
    assert 0.04 < parts.count("dev") / len(parts) < 0.09


def test_sentences_hardly_ever_repeat() -> None:
    rng = random.Random(1)
    sentences = [draw_sentence(rng) for _ in range(5000)]
    assert len(set(sentences)) > 0.999 * len(sentences)


@given(seeds)
def test_the_same_seed_gives_the_same_text(seed: int) -> None:
    first, second = (draw_text(random.Random(seed), part="train", num_sentences=2) for _ in range(2))
    assert first == second
