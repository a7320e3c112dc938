import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valle.measures.tokens import bigram_nll, entropy, perplexity, repeated_share, token_counts, unigram_nll

streams = st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=1, max_size=5)


def arrays(rows: list[list[int]]) -> list[np.ndarray]:
    return [np.array(row, np.int64) for row in rows]


def slow_unigram(train: list[list[int]], test: list[list[int]], size: int) -> float:
    flat = [token for row in train for token in row]
    scores = [-np.log((flat.count(token) + 1) / (len(flat) + size)) for row in test for token in row]
    return float(np.mean(scores))


@given(train=streams, test=streams.filter(lambda rows: any(rows)))
def test_unigram_nll_equals_its_slow_twin(train: list[list[int]], test: list[list[int]]) -> None:
    found = unigram_nll(token_counts(arrays(train), 7), token_counts(arrays(test), 7))
    assert found == pytest.approx(slow_unigram(train, test, 7))


@given(rows=streams)
def test_counts_add_up(rows: list[list[int]]) -> None:
    assert token_counts(arrays(rows), 7).sum() == sum(map(len, rows))


def test_uniform_tokens_have_the_entropy_of_the_vocabulary() -> None:
    counts = np.full(8, 5)
    assert entropy(counts) == pytest.approx(np.log(8))
    assert perplexity(counts) == pytest.approx(8)
    assert perplexity(np.array([9, 0, 0])) == 1
    assert entropy(np.zeros(3, np.int64)) == 0


def test_unseen_tokens_cost_much_but_not_infinitely() -> None:
    assert np.log(2) < unigram_nll(np.array([100, 0]), np.array([0, 1])) < np.inf


def test_bigram_knows_what_follows() -> None:
    rows = arrays([[0, 1, 2, 3] * 50])
    assert bigram_nll(rows, rows, 4) < 0.1 < unigram_nll(token_counts(rows, 4), token_counts(rows, 4))


@given(rows=streams.filter(lambda rows: any(rows)))
def test_bigram_probabilities_sum_to_one_after_any_token(rows: list[list[int]]) -> None:
    train = arrays(rows)
    for before in range(7):
        first = bigram_nll(train, [np.array([before])], 7)
        total = sum(np.exp(-(2 * bigram_nll(train, [np.array([before, after])], 7) - first)) for after in range(7))
        assert total == pytest.approx(1)


def test_no_tokens_have_no_nll() -> None:
    assert np.isnan(unigram_nll(np.ones(3, np.int64), np.zeros(3, np.int64)))
    assert np.isnan(bigram_nll([np.array([0, 1])], [], 2))


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.3, found 0\.\.4"):
        token_counts([np.array([0, 4])], 4)
    with pytest.raises(ValueError, match="one vocabulary"):
        unigram_nll(np.ones(3, np.int64), np.ones(4, np.int64))


def test_repeated_share() -> None:
    assert repeated_share(np.array([1, 1, 1, 2, 2])) == 0.75
    assert repeated_share(np.array([1])) == 0
