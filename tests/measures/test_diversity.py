from math import exp, isnan

import pytest

from valle.measures.diversity import distinct_share, self_bleu


def test_copies_score_one_and_strangers_nothing() -> None:
    assert self_bleu([[1, 2, 3, 4, 5]] * 3) == pytest.approx([1, 1, 1])
    assert self_bleu([[1, 2, 3, 4], [5, 6, 7, 8]]) == [0, 0]


def test_self_bleu_is_what_a_hand_computes() -> None:
    # a: 1 2 3 4 5 against 1 2 3 4 6: precisions 4/5, 3/4, 2/3, 1/2, the same length. c shares nothing that is longer than one token.
    one, two, three = self_bleu([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [9, 9, 9, 1, 9]])
    assert one == two == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert three == 0


def test_counts_are_clipped_and_short_sequences_pay() -> None:
    # 1 1 1 1 against 1 1 1 1 1 1: all precisions 1, brevity exp(1 - 6/4). The other way: 4/6, 3/5, 2/4, 1/3, no penalty.
    short, long = self_bleu([[1] * 4, [1] * 6])
    assert short == pytest.approx(exp(1 - 6 / 4))
    assert long == pytest.approx((4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_references_are_the_others_never_the_sequence_itself() -> None:
    alone, _, _ = self_bleu([[1, 1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    assert alone == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)  # of two ones, one is elsewhere


def test_what_has_no_score_says_so() -> None:
    assert all(isnan(score) for score in self_bleu([[1, 2, 3, 4]]))
    scores = self_bleu([[1, 2, 3, 4], [1, 2], [1, 2, 3, 4]])
    assert isnan(scores[1]) and scores[0] == pytest.approx(1)
    assert isnan(distinct_share([])) and distinct_share("abab") == 0.5
