"""The parallel corpus: a function of its settings, sentences whole in all languages, one voice for each, word times."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from lhotse import CutSet

from valle.corpora.espeak_grammar import part_of, words_of
from valle.corpora.espeak_text import TEXTS_FILE, EspeakTextConfig, prepare_espeak_text, synthesize_text_corpus, write_texts
from valle.corpora.espeak_text_utterance import timed_words
from valle.corpora.manifests import read_lines
from valle.corpora.speech import Span
from valle.corpora.speech_config import CorpusConfigError

CONFIG = EspeakTextConfig(languages="en,es,fr", num_hours=0.01, dev_minutes=0.2, test_minutes=0.4, num_voices=3, num_test_voices=2, seed=7)


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("espeak_text") / "corpus"
    synthesize_text_corpus(directory, config=CONFIG)
    return directory


@pytest.fixture(scope="module")
def cuts(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CutSet]:
    return prepare_espeak_text(corpus, tmp_path_factory.mktemp("manifests"))


def test_workers_and_a_broken_run_change_nothing(corpus: Path, tmp_path: Path) -> None:
    synthesize_text_corpus(tmp_path, config=CONFIG, num_workers=2)
    assert contents(tmp_path) == contents(corpus)
    for lost in (tmp_path / "report.json", tmp_path / "utterances_train.jsonl", next(tmp_path.glob("audio/train/*/*.wav"))):
        lost.unlink()
    synthesize_text_corpus(tmp_path, config=CONFIG)
    assert contents(tmp_path) == contents(corpus)


def test_every_sentence_is_there_in_every_language_by_one_voice(cuts: dict[str, CutSet]) -> None:
    for part, its_cuts in cuts.items():
        by_id = {cut.id: cut.supervisions[0] for cut in its_cuts}
        assert len(by_id) % 3 == 0
        for supervision in by_id.values():
            links = supervision.custom["translations"]
            assert {*links, supervision.language} == {"English", "Spanish", "French"}
            for language, link in links.items():
                other = by_id[link["id"]]
                assert (other.language, other.text) == (language, link["text"])
                for name in ("sentence", "variant", "pitch", "pitch_range", "rate"):
                    assert other.custom[name] == supervision.custom[name]
                assert other.speaker == supervision.speaker
            if supervision.language == "English":
                assert part_of(supervision.text) == part


def test_test_has_held_out_voices_beside_those_of_train(cuts: dict[str, CutSet]) -> None:
    speakers = {part: {cut.supervisions[0].speaker for cut in its_cuts} for part, its_cuts in cuts.items()}
    held_out = {cut.supervisions[0].speaker for cut in cuts["test"] if not cut.supervisions[0].custom["voice_is_in_train"]}
    assert held_out and not held_out & speakers["train"] and speakers["dev"] <= speakers["train"]


def test_word_times_hold_all_words_in_order(cuts: dict[str, CutSet]) -> None:
    for cut in cuts["dev"]:
        supervision = cut.supervisions[0]
        items = supervision.alignment["word"]
        assert " ".join(item.symbol for item in items).split() == words_of(supervision.text)
        assert all(first.end <= second.start + 1e-3 for first, second in itertools.pairwise(items))
        assert items[-1].end <= cut.duration + 1e-3


def test_more_texts_are_of_train_and_are_none_that_is_spoken(corpus: Path, cuts: dict[str, CutSet], tmp_path: Path) -> None:
    write_texts(corpus, tmp_path, num_texts=20)
    rows = [json.loads(line)["texts"] for line in read_lines(tmp_path / TEXTS_FILE)]
    assert len(rows) == 20 and all(set(row) == {"English", "Spanish", "French"} for row in rows)
    spoken = {cut.supervisions[0].text for part in ("dev", "test") for cut in cuts[part]}
    assert all(part_of(row["English"]) == "train" and not spoken & set(row.values()) for row in rows)
    write_texts(corpus, tmp_path / "again", num_texts=20)
    assert (tmp_path / "again" / TEXTS_FILE).read_bytes() == (tmp_path / TEXTS_FILE).read_bytes()


def test_words_that_are_said_as_one_share_an_item() -> None:
    timed = [Span(symbol="in", start=0.0, duration=0.2), Span(symbol="lake", start=0.3, duration=0.4)]
    assert [span.symbol for span in timed_words("In the lake.", timed)] == ["in the", "lake"]
    assert timed_words("The lake.", timed) == (), "times of another text are no times"


def test_another_language_is_another_corpus() -> None:
    assert replace(CONFIG, languages="en,es").fingerprint() != CONFIG.fingerprint()


@pytest.mark.parametrize("settings", [{"languages": "en,klingon"}, {"num_hours": 0.0}, {"num_voices": 0}, {"max_seconds": 1.0}])
def test_settings_that_cannot_be_met_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises((CorpusConfigError, ValueError), match="found"):
        EspeakTextConfig(**settings)  # type: ignore[arg-type]
