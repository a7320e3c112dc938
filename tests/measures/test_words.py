from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valle.corpora.espeak_grammar import lexicon
from valle.measures.words import edit_distance, longest_common_run, number_in_words, repeats, words_of_speech

letters = st.text("abc", max_size=7)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("24 lamps, 12 tables", "twenty four lamps twelve tables"),
        ("Twenty-four Lamps and twelve tables.", "twenty four lamps and twelve tables"),
        ("The neighbor's gray harbor", "the neighbours grey harbour"),
        ("1,200 cafés", "one thousand two hundred cafes"),
        ("It isn’t", "it isnt"),
        ("...", ""),
    ],
)
def test_what_is_said_alike_is_written_alike(written: str, said: str) -> None:
    assert words_of_speech(written) == said.split()


def test_words_of_the_lexicon_stay_themselves() -> None:
    assert all(words_of_speech(word) == [word] for word in lexicon())


def test_numbers_of_the_grammar_are_words_of_its_lexicon() -> None:
    assert all(lexicon().issuperset(number_in_words(number)) for number in range(1, 100))
    assert number_in_words(1000017) == "one zero zero zero zero one seven".split()


@given(letters, letters)
def test_the_edit_distance_equals_its_definition(one: str, other: str) -> None:
    @cache
    def slow(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(slow(i - 1, j) + 1, slow(i, j - 1) + 1, slow(i - 1, j - 1) + (one[i - 1] != other[j - 1]))

    assert edit_distance(one, other) == slow(len(one), len(other))


@given(st.lists(st.integers(0, 2), max_size=8), st.lists(st.integers(0, 2), max_size=8))
def test_the_longest_common_run_equals_a_search_of_all_stretches(one: list[int], other: list[int]) -> None:
    stretches = {tuple(other[i:j]) for i in range(len(other)) for j in range(i + 1, len(other) + 1)}
    found = [j - i for i in range(len(one)) for j in range(i + 1, len(one) + 1) if tuple(one[i:j]) in stretches]
    assert longest_common_run(one, other) == max(found, default=0)


@pytest.mark.parametrize(
    ("text", "loops"),
    [("no no no", True), ("it was it was it was", True), ("the cat saw the cat", False), ("very very good", False), ("", False)],
)
def test_loops_of_a_recogniser_are_found(text: str, loops: bool) -> None:
    assert repeats(text.split()) is loops
