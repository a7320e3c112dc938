"""Byte-pair encoding of units: exact, local, and known by its hash."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bpe import tiny_bpe, utterances

from valle.tokenizers.unit_bpe import LONGEST_TOKEN, UnitBpe, UnitBpeError, fit_unit_bpe

UNITS = 7
BPE = tiny_bpe(UNITS)
any_units = st.lists(st.integers(0, UNITS - 1), max_size=60)
spoken = st.builds(lambda seed: utterances(num_units=UNITS, count=130, seed=0)[seed], st.integers(0, 129))


@given(units=any_units | spoken)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_what_is_encoded_is_decoded_to_the_same_frames(units: list[int]) -> None:
    tokens = BPE.encode(units)
    assert BPE.decode(tokens) == units
    assert all(0 <= token < BPE.num_tokens for token in tokens)


def test_speech_becomes_shorter_and_every_unit_is_a_token() -> None:
    streams = utterances(num_units=UNITS)
    assert sum(len(BPE.encode(units)) for units in streams) < 0.6 * sum(map(len, streams))
    assert BPE.num_tokens == 40 and BPE.longest <= LONGEST_TOKEN
    assert {piece for piece in BPE.pieces if len(piece) == 1} == {(unit,) for unit in range(UNITS)}


def test_units_that_the_corpus_lacks_are_tokens_too() -> None:
    bpe = fit_unit_bpe([[0, 1, 0, 1, 0, 1]] * 3, num_units=5, vocab_size=6)
    assert bpe.decode(bpe.encode([4, 0, 1, 3])) == [4, 0, 1, 3]


def test_utterances_of_minutes_are_not_left_out() -> None:
    """sentencepiece passes over lines of more than 4192 bytes, 56 s of 25 Hz units, unless told otherwise."""
    bpe = fit_unit_bpe([[0, 1, 2] * 2000], num_units=4, vocab_size=5)
    assert bpe.longest > 1


@given(units=spoken, share=st.floats(0.2, 1.0), more=any_units)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_tokens_of_a_prompt_are_the_first_tokens_of_whatever_goes_on_from_it(units: list[int], share: float, more: list[int]) -> None:
    prompt = units[: max(1, int(share * len(units)))]
    kept, edge = BPE.encode_settled(prompt)
    assert BPE.decode(kept) + edge == prompt
    assert 1 <= len(edge) < 2 * BPE.longest
    for rest in (units[len(prompt) :], more):
        assert BPE.encode(prompt + rest)[: len(kept)] == kept


def test_the_edge_matters() -> None:
    """Without leaving out the edge the test before this one would fail: what follows changes a prompt's last tokens."""
    changed = [
        (units, end)
        for units in utterances(num_units=UNITS)
        for end in range(4, len(units), 5)
        if BPE.encode(units)[: len(BPE.encode(units[:end]))] != BPE.encode(units[:end])
    ]
    assert len(changed) > 100


@given(units=st.lists(st.integers(0, UNITS - 1), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_tokens_agree_with_an_edge_if_they_begin_it_or_begin_with_it(units: list[int]) -> None:
    wanted = tuple(units)
    agreeing = {BPE.pieces[token] for token in BPE.agreeing(units)}
    assert agreeing == {piece for piece in BPE.pieces if wanted[: len(piece)] == piece or piece[: len(wanted)] == wanted}
    assert (units[0],) in agreeing  # so that there is always a way


def test_the_same_utterances_give_the_same_model_and_its_text_holds_it() -> None:
    again = fit_unit_bpe(utterances(num_units=UNITS), num_units=UNITS, vocab_size=40)
    other = fit_unit_bpe(utterances(num_units=UNITS, seed=1), num_units=UNITS, vocab_size=40)
    assert again.sha256 == BPE.sha256 != other.sha256
    back = UnitBpe.from_text(BPE.text, num_units=UNITS)
    assert back.sha256 == BPE.sha256 and back.pieces == BPE.pieces
    assert pickle.loads(pickle.dumps(BPE)).encode([1, 2, 3]) == BPE.encode([1, 2, 3])


def test_what_cannot_be_is_refused() -> None:
    for sizes, words in (
        ({"num_units": 7, "vocab_size": 7}, "more tokens than the 7 units"),
        ({"num_units": 30000, "vocab_size": 40000}, "1 to 20000 units"),
        ({"num_units": 7, "vocab_size": 4000}, "4000 tokens can be made"),
    ):
        with pytest.raises(UnitBpeError, match=words):
            fit_unit_bpe([[0, 1, 2, 0, 1, 2]], **sizes)
    with pytest.raises(UnitBpeError, match="of 9 units, found one of 7"):
        UnitBpe(num_units=9, model=BPE.model)
    with pytest.raises(UnitBpeError, match="of 5 units"):
        UnitBpe(num_units=5, model=BPE.model)
    for damaged in ("no base64!", "QUJD", BPE.text[:400]):
        with pytest.raises(UnitBpeError, match="damaged"):
            UnitBpe.from_text(damaged, num_units=UNITS)
