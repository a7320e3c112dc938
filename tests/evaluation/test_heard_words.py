from collections.abc import Sequence

import numpy as np
import pytest

from valle.corpora.espeak_grammar import lexicon
from valle.corpora.grammar_fragments import fragments
from valle.evaluation.heard_words import (
    HeardClip,
    above_babble,
    character_errors,
    distinct_words,
    lexicon_counts,
    trigrams_allowed,
    trusted,
    word_errors,
)
from valle.evaluation.recogniser import Heard, Segment

WORDS = frozenset("anna peter saw the lamp".split())


def clips(*texts: str, unsure: Sequence[int] = (), seconds: float = 2.0) -> list[HeardClip]:
    """What was heard in clips of ``seconds``; those of ``unsure`` are doubted."""
    return [
        HeardClip(str(number), seconds, Heard((Segment(text, -2.0 if number in unsure else -0.2, 1.0, 0.0),) if text else ()))
        for number, text in enumerate(texts)
    ]


def test_word_errors_count_edits_over_the_words_of_the_text() -> None:
    heard = clips("anna saw lamp", "peter saw the the lamp")
    assert word_errors(heard, ["Anna saw the lamp.", "Peter saw the lamp."]).mean == 2 / 8
    assert character_errors(clips("lamp"), ["lamb"]).mean == 1 / 4


def test_doubted_words_count_as_errors_and_not_as_heard_words() -> None:
    """To leave them out of the errors would flatter, and to count them as words would let hallucinations in."""
    heard = clips("thank you", "anna saw", unsure=[0])
    assert word_errors(heard, ["anna", "anna saw"]).mean == pytest.approx(2 / 3)
    assert lexicon_counts(heard, WORDS).words.tolist() == [0, 2]
    assert lexicon_counts(heard, WORDS, doubted=True).words.tolist() == [2, 2]


def test_few_words_that_are_all_known_have_no_narrow_interval() -> None:
    """A bootstrap of values that are all 1 has no width, which would feign certainty."""
    share = lexicon_counts(clips("anna saw", "peter"), WORDS).share
    assert share.mean == 1 and share.low < 0.5 and share.high == 1 and share.count == 2


def test_the_share_in_the_lexicon_is_over_all_heard_words() -> None:
    counts = lexicon_counts(clips("anna saw the zebra", "peter", ""), WORDS)
    assert counts.share.mean == 4 / 5 and counts.share.count == 3
    assert counts.words_a_second.mean == pytest.approx(4 / 6)


def test_babble_scores_0_and_real_speech_through_the_codec_1() -> None:
    real, babble = lexicon_counts(clips(*["anna saw the lamp"] * 6), WORDS), lexicon_counts(clips(*["anna xx yy zz"] * 6), WORDS)
    between = lexicon_counts(clips(*["anna saw yy zz", "anna saw the zz"] * 3), WORDS)
    assert above_babble(real, babble=babble, round_trip=real).mean == 1 and above_babble(babble, babble=babble, round_trip=real).mean == 0
    score = above_babble(between, babble=babble, round_trip=real)
    assert score.mean == pytest.approx(0.5) and 1 / 3 - 1e-9 <= score.low < score.high <= 2 / 3 + 1e-9


def test_the_score_by_seconds_sees_how_much_is_said() -> None:
    real, babble = lexicon_counts(clips(*["anna saw the lamp"] * 4), WORDS), lexicon_counts(clips(*["", "xx", "", ""]), WORDS)
    half = lexicon_counts(clips(*["anna saw"] * 4), WORDS)
    assert above_babble(half, babble=babble, round_trip=real, of="seconds").mean == pytest.approx(0.5)


def test_a_score_between_equal_ends_is_no_number() -> None:
    same = lexicon_counts(clips("anna", "peter"), WORDS)
    assert np.isnan(above_babble(same, babble=same, round_trip=same).mean)


def test_trigrams_count_where_all_three_words_are_known() -> None:
    heard = clips("found the lamp zebra the found lamp", "Anna found a green bottle")
    assert trigrams_allowed(heard, lexicon(), fragments()).mean == pytest.approx(4 / 5)


def test_shares_of_trusted_clips_and_of_distinct_words() -> None:
    heard = clips("anna anna saw the", "", "peter", unsure=[2])
    assert trusted(heard).mean == pytest.approx(1 / 3)
    assert distinct_words(heard).mean == 3 / 4
