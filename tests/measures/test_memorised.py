import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.measures.memorised import longest_runs_found, ngrams_found
from valle.measures.words import longest_common_run

TOKENS = st.lists(st.integers(0, 2), max_size=12)


def test_ngrams_are_counted_within_texts_only() -> None:
    texts = ["the green bottle fell down".split(), "a horse ran".split()]
    queries = ["the green bottle fell".split(), "fell down a horse".split(), ["the"]]
    assert ngrams_found(queries, iter(texts), 3) == [(2, 2), (0, 2), (0, 0)]


def test_the_longest_run_is_what_a_hand_finds() -> None:
    queries = [np.array([1, 2, 3, 4]), np.array([5, 5]), np.array([7])]
    texts = [np.array([9, 2, 3, 4, 9]), np.array([1, 5]), np.array([5, 1])]
    assert longest_runs_found(queries, texts) == [3, 1, 0]  # 5 5 stands across two texts, in neither


@settings(max_examples=40, deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=3), st.lists(TOKENS, max_size=4))
def test_runs_equal_the_slow_twins_whatever_the_block(queries: list[list[int]], texts: list[list[int]]) -> None:
    expected = [max((longest_common_run(query, text) for text in texts), default=0) for query in queries]
    for block in (1, 7, 1000):
        found = longest_runs_found(
            [np.array(query, np.int64) for query in queries], [np.array(text, np.int64) for text in texts], block=block
        )
        assert found == expected
