"""Items of the language suites: what is balanced by construction, and that items depend on nothing but their settings."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.audio import read_audio
from valle.corpora.espeak_discourse import one_of
from valle.corpora.espeak_grammar import draw_text, part_of
from valle.corpora.espeak_synthesiser import EspeakSynthesiser
from valle.corpora.espeak_voices import training_voice
from valle.errors import UserError
from valle.evaluation.language import make as module
from valle.evaluation.language.load import read_made
from valle.evaluation.language.make import SUITES, LanguageItemOptions, make_language_items
from valle.evaluation.language.nonwords import Nonwords, wuggy_quadruple
from valle.evaluation.language.sentences import AGREEMENTS, SWAPS, blimp_quadruple, cloze_quadruple
from valle.evaluation.language.sounds import GROUPS, draw_versions, speak_consistency
from valle.evaluation.language.spoken import Quadruple
from valle.measures.ngrams import Trigram

VOICE = training_voice(0, seed=42)
seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def synthesiser() -> Iterator[EspeakSynthesiser]:
    with EspeakSynthesiser() as opened:
        yield opened


@pytest.fixture(scope="module")
def trigram() -> Trigram:
    """Of words, fitted on texts of the train part."""
    rng = random.Random(0)
    texts = [draw_text(rng, part="train", num_sentences=1) for _ in range(500)]
    return Trigram([text.replace(".", " .").replace("?", " ?").replace(",", " ,").split() for text in texts])


def sentence_quadruples(seed: int) -> list[Quadruple]:
    rng = random.Random(seed)
    return [blimp_quadruple(rng, group, VOICE) for group in AGREEMENTS] + [cloze_quadruple(rng, group, VOICE) for group in SWAPS]


@settings(max_examples=4, deadline=None)
@given(seeds)
def test_every_word_is_as_often_right_as_wrong(seed: int) -> None:
    for quadruple in sentence_quadruples(seed):
        right, wrong = (Counter(word for pair in quadruple.pairs for word in pair[side].symbols) for side in (0, 1))
        assert right == wrong
        for (_, one), (_, other) in [quadruple.pairs]:
            assert {one.text, other.text}.isdisjoint(side[0].text for side in quadruple.pairs)


@settings(max_examples=4, deadline=None)
@given(seeds)
def test_a_trigram_of_words_is_right_in_exactly_one_pair_of_two(trigram: Trigram, seed: int) -> None:
    for quadruple in sentence_quadruples(seed):
        first, second = (trigram.nats(wrong.symbols) - trigram.nats(right.symbols) for right, wrong in quadruple.pairs)
        assert first == pytest.approx(-second, abs=1e-9), quadruple.group


@settings(max_examples=4, deadline=None)
@given(seeds)
def test_right_sentences_are_of_the_test_part_and_differ_from_wrong_ones_in_one_word(seed: int) -> None:
    for quadruple in sentence_quadruples(seed):
        for right, wrong in quadruple.pairs:
            assert part_of(right.text) == "test"
            assert sum(one != other for one, other in zip(right.symbols, wrong.symbols, strict=True)) == 1
            assert right.place == wrong.place and right.place is not None
            assert right.text[: right.place] == wrong.text[: right.place] and right.text[right.place :] != wrong.text[right.place :]


@pytest.mark.parametrize("withheld", [False, True])
def test_words_and_non_words_are_made_of_the_same_halves(synthesiser: EspeakSynthesiser, withheld: bool) -> None:
    nonwords = Nonwords(synthesiser, VOICE, withheld=withheld, seed=0)
    known = {word for words in (nonwords.take(number).words for number in range(12)) for word in words}
    balance = 0
    for number in range(12):
        exchange = nonwords.take(number)
        assert Counter(sum(exchange.words, ())) == Counter(sum(exchange.nonwords, ()))
        assert not known & set(exchange.nonwords)
        for word, nonword in zip(exchange.words, exchange.nonwords, strict=True):
            assert len(word) == len(nonword) and word[:2] == nonword[:2]
            stresses = [[phoneme[0] in "'," for phoneme in phonemes] for phonemes in (word, nonword)]
            assert stresses[0] == stresses[1]
        balance += exchange.lean
    assert abs(balance) <= 2  # of 24 pairs, the trigram of phonemes gets as many right as wrong


def test_exchanges_share_a_carrier_and_differ_in_the_word_alone(synthesiser: EspeakSynthesiser) -> None:
    exchange = Nonwords(synthesiser, VOICE, withheld=False, seed=0).take(3)
    quadruple = wuggy_quadruple(random.Random(0), "in_vocabulary_carrier", VOICE, exchange)
    said = [side.text for pair in quadruple.pairs for side in pair]
    assert len({text.split("[[")[0] for text in said}) == 1 == len({text.split("]]")[1] for text in said})
    alone = wuggy_quadruple(random.Random(0), "in_vocabulary_alone", VOICE, exchange)
    assert all(side.text.startswith("[[") and side.place is None for pair in alone.pairs for side in pair)


def test_a_word_from_its_phonemes_sounds_as_the_word_does(synthesiser: EspeakSynthesiser) -> None:
    """So both members of a pair go one path, and it is the path of the training texts."""
    for word in ("hammer", "guitar", "sandwich"):
        [phonemes] = synthesiser.spell([word], VOICE)
        by_phonemes = synthesiser.speak(f"Anna found the [[{'|'.join(phonemes)}]] near the river.", VOICE, phonemes=True)
        by_text = synthesiser.speak(f"Anna found the {word} near the river.", VOICE)
        assert [phone.symbol for phone in by_phonemes.phones] == [phone.symbol for phone in by_text.phones]
        assert abs(by_phonemes.seconds - by_text.seconds) < 0.01


@pytest.mark.parametrize("group", GROUPS[:-1])
def test_halves_of_two_versions_are_exchanged(synthesiser: EspeakSynthesiser, group: str) -> None:
    rng = random.Random(1)
    versions = draw_versions(rng, group, 3, num_voices=10, seed=42)
    made = speak_consistency(synthesiser, rng, versions)
    assert made is not None
    (right, wrong), (other_right, other_wrong) = made[1]
    for one, other in ((right, wrong), (other_right, other_wrong)):
        cut = round(one.prompt_seconds * 16_000)
        assert one.prompt_seconds == other.prompt_seconds
        if group != "background":  # noise is drawn for every recording, so that no seam tells
            np.testing.assert_array_equal(one.samples[:cut], other.samples[:cut])
        shortest = min(len(one.samples), len(other.samples))
        assert not np.allclose(one.samples[cut:shortest], other.samples[cut:shortest])
    cuts = [round(row.prompt_seconds * 16_000) for row in (right, other_right)]
    if group != "background":
        np.testing.assert_array_equal(wrong.samples[cuts[0] :], other_right.samples[cuts[1] :])
        np.testing.assert_array_equal(other_wrong.samples[cuts[1] :], right.samples[cuts[0] :])


def test_items_are_a_function_of_their_settings_and_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def options(folder: str, max_items: int) -> LanguageItemOptions:
        return LanguageItemOptions(output_dir=tmp_path / folder, suite="wuggy", max_items=max_items, num_voices=5)

    whole = make_language_items(options("whole", 16))
    assert len(whole) == 16 and {pair.group for pair in whole} == set(SUITES["wuggy"])
    calls = 0
    write = module._Maker._write

    def killed(self: module._Maker, *args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            with next((tmp_path / "killed" / "wuggy").glob("*.jsonl")).open("a") as lines:
                lines.write('{"id": "wugg')  # half a line
            raise KeyboardInterrupt
        write(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(module._Maker, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        make_language_items(options("killed", 16))
    assert len(read_made(tmp_path / "killed", "wuggy")) == 6
    monkeypatch.setattr(module._Maker, "_write", write)
    again = make_language_items(options("killed", 16))
    assert [pair.id for pair in again] == [pair.id for pair in whole]
    for one, other in zip(again, whole, strict=True):
        assert one.right.audio.read_bytes() == other.right.audio.read_bytes()
    few = make_language_items(options("killed", 8))
    assert len(few) == 8 and {pair.id for pair in few} < {pair.id for pair in whole}


def test_items_of_other_settings_are_refused(tmp_path: Path) -> None:
    make_language_items(LanguageItemOptions(output_dir=tmp_path, suite="blimp", max_items=2, num_voices=5))
    with pytest.raises(UserError, match="another --output-dir"):
        make_language_items(LanguageItemOptions(output_dir=tmp_path, suite="blimp", max_items=2, num_voices=6))
    rows = [json.loads(line) for line in (tmp_path / "blimp" / "number.jsonl").read_text().splitlines()]
    for row in rows:
        for side in (row["right"], row["wrong"]):
            wav, rate = read_audio(tmp_path / side["audio"])
            assert rate == 16_000 and 0 < side["prompt_seconds"] < len(wav) / rate


def test_a_contour_is_right_for_its_wording_alone(tmp_path: Path) -> None:
    pairs = make_language_items(LanguageItemOptions(output_dir=tmp_path, suite="salmon", max_items=2, num_voices=5))
    question, statement = [pair for pair in read_made(tmp_path, "salmon") if pair.group == "contour"]
    assert question.right.symbols == question.wrong.symbols and question.right.symbols[0] == "Did"
    assert statement.right.symbols == statement.wrong.symbols and statement.right.symbols[0] != "Did"
    assert question.right.audio.read_bytes() != question.wrong.audio.read_bytes()
    assert len({pair.id for pair in pairs}) == len(pairs)


def test_a_choice_depends_on_random_alone() -> None:
    assert [one_of(random.Random(0), range(10)) for _ in range(2)] == [8, 8]
