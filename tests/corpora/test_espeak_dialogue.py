"""The dialogue corpus: a function of its settings, two voices on two channels, turns in time, answers that fit by their words."""

from __future__ import annotations

import hashlib
import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut

from valle.corpora.cut_audio import read_cut
from valle.corpora.dialogue_script import BACK_CHANNELS, SCRIPT, answer_fits, draw_exchange, rule_of
from valle.corpora.espeak_dialogue import EspeakDialogueConfig, prepare_espeak_dialogue, synthesize_dialogues
from valle.corpora.espeak_grammar import part_of, words_of
from valle.corpora.speech_config import CorpusConfigError

CONFIG = EspeakDialogueConfig(
    num_hours=0.015, dev_minutes=0.3, test_minutes=0.6, num_voices=3, num_test_voices=2, max_seconds=20, overlap_share=0.4,
    back_channel_share=0.9, seed=7,
)  # fmt: skip


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pairs(cuts: CutSet) -> list[tuple[MonoCut, MonoCut]]:
    """Both channels of each dialogue."""
    found = list(cuts)
    return list(zip(found[::2], found[1::2], strict=True))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("espeak_dialogue") / "corpus"
    synthesize_dialogues(directory, config=CONFIG)
    return directory


@pytest.fixture(scope="module")
def cuts(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CutSet]:
    return prepare_espeak_dialogue(corpus, tmp_path_factory.mktemp("manifests"))


def test_workers_and_a_broken_run_change_nothing(corpus: Path, tmp_path: Path) -> None:
    synthesize_dialogues(tmp_path, config=CONFIG, num_workers=2)
    assert contents(tmp_path) == contents(corpus)
    for lost in (tmp_path / "report.json", tmp_path / "utterances_train.jsonl", next(tmp_path.glob("audio/train/*/*.wav"))):
        lost.unlink()
    synthesize_dialogues(tmp_path, config=CONFIG)
    assert contents(tmp_path) == contents(corpus)


def test_a_cut_is_one_channel_with_its_own_voice(cuts: dict[str, CutSet]) -> None:
    for first, second in pairs(cuts["train"]):
        assert first.recording.id == second.recording.id and (first.channel, second.channel) == (0, 1)
        assert first.duration == second.duration <= CONFIG.max_seconds
        voices = [{turn.speaker for turn in cut.supervisions} for cut in (first, second)]
        assert len(voices[0]) == len(voices[1]) == 1 and voices[0] != voices[1]


def test_a_channel_sounds_where_its_turns_are_and_nowhere_else(cuts: dict[str, CutSet]) -> None:
    for cut in list(cuts["train"])[:6]:
        samples, rate = read_cut(cut)
        both, _ = soundfile.read(cut.recording.sources[0].source, dtype="float32")
        np.testing.assert_array_equal(samples, both[:, cut.channel])
        is_said = np.zeros(len(samples), bool)
        for turn in cut.supervisions:
            span = slice(round(turn.start * rate), round(turn.end * rate))
            is_said[span] = True
            assert np.abs(samples[span]).max() > 0.05
        assert not samples[~is_said].any()


def test_turns_of_a_voice_do_not_overlap_and_those_of_two_sometimes_do(cuts: dict[str, CutSet]) -> None:
    gaps, back_channels = [], 0
    for first, second in pairs(cuts["train"]):
        for cut in (first, second):
            own = sorted(cut.supervisions, key=lambda turn: turn.start)
            assert all(before.end <= after.start for before, after in itertools.pairwise(own))
            back_channels += sum(turn.custom["kind"] == "back-channel" for turn in own)
        said = sorted((turn for cut in (first, second) for turn in cut.supervisions if turn.custom["rule"]), key=lambda turn: turn.start)
        assert [turn.custom["kind"] for turn in said] == ["question", "answer"] * (len(said) // 2)
        gaps += [after.start - before.end for before, after in zip(said[::2], said[1::2], strict=True)]
    assert min(gaps) < 0 < max(gaps) and back_channels > 0
    assert all(-0.36 <= gap <= 0.61 for gap in gaps)


def test_answers_fit_their_questions_and_parts_share_none(cuts: dict[str, CutSet]) -> None:
    asked: dict[str, set[str]] = {}
    for part, its_cuts in cuts.items():
        for first, second in pairs(its_cuts):
            said = sorted((turn for cut in (first, second) for turn in cut.supervisions), key=lambda turn: turn.start)
            script = [turn for turn in said if turn.custom["rule"]]
            for question, answer in zip(script[::2], script[1::2], strict=True):
                rule = rule_of(question.text)
                assert answer_fits(question.text, answer.text) and rule is not None and rule.name == question.custom["rule"]
                assert part_of(question.text) == part and question.channel != answer.channel
                asked.setdefault(part, set()).add(question.text)
            assert all(turn.text in BACK_CHANNELS for turn in said if not turn.custom["rule"])
    assert not asked["train"] & (asked["dev"] | asked["test"])


def test_word_times_hold_all_words_in_order(cuts: dict[str, CutSet]) -> None:
    for cut in cuts["dev"]:
        for turn in cut.supervisions:
            items = turn.alignment["word"]
            assert " ".join(item.symbol for item in items).split() == words_of(turn.text)
            assert all(first.end <= second.start + 1e-3 for first, second in itertools.pairwise(items))
            assert turn.start <= items[0].start + 1e-3 and items[-1].end <= turn.end + 1e-3


def test_test_has_held_out_voices_beside_those_of_train(cuts: dict[str, CutSet]) -> None:
    turns = {part: [turn for cut in its_cuts for turn in cut.supervisions] for part, its_cuts in cuts.items()}
    train = {turn.speaker for turn in turns["train"]}
    held_out = {turn.speaker for turn in turns["test"] if not turn.custom["voice_is_in_train"]}
    known = {turn.speaker for turn in turns["test"] if turn.custom["voice_is_in_train"]}
    assert held_out and not held_out & train and known <= train and {turn.speaker for turn in turns["dev"]} <= train


@pytest.mark.parametrize("rule", [rule.name for rule in SCRIPT])
def test_answers_of_every_rule_fit_their_own_question_alone(rule: str) -> None:
    rng = random.Random(3)
    drawn = [draw_exchange(rng, part="train", rule=rule) for _ in range(30)]
    assert all(answer_fits(one.question, one.answer) for one in drawn)
    others = [answer_fits(one.question, other.answer) for one in drawn for other in drawn if one.question != other.question]
    assert sum(others) < 0.1 * len(others)
    answer = drawn[0].answer
    assert answer_fits(drawn[0].question.upper(), answer.lower()) and not answer_fits(drawn[0].question, "I see.")
    assert not answer_fits("What is this?", answer) and rule_of("What is this?") is None


@pytest.mark.parametrize("settings", [{"num_voices": 1}, {"num_test_voices": 1}, {"max_seconds": 5.0}, {"overlap_share": 1.5}])
def test_settings_that_cannot_be_met_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(CorpusConfigError, match="found"):
        replace(CONFIG, **settings)  # type: ignore[arg-type]
