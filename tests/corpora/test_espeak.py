"""Stages 0 and 1 of the embedded corpus: the folder's content is a function of the settings alone."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet

from valle.corpora.espeak import (
    EspeakConfig,
    EspeakConfigError,
    EspeakDirectoryError,
    SynthesisReport,
    prepare_espeak,
    synthesize_corpus,
)
from valle.corpora.espeak_grammar import part_of, words_of
from valle.corpora.espeak_utterance import Utterance
from valle.corpora.espeak_writer import index_path, read_index
from valle.corpora.manifests import write_cuts
from valle.errors import UserError

CONFIG = EspeakConfig(num_hours=0.06, dev_minutes=0.5, test_minutes=1.0, num_voices=6, num_test_voices=3, seed=7)


def contents(directory: Path) -> dict[str, str]:
    """Digest of every file by its path."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("espeak") / "corpus"
    synthesize_corpus(directory, config=CONFIG, num_workers=1)
    return directory


@pytest.fixture(scope="module")
def cuts(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CutSet]:
    return prepare_espeak(corpus, tmp_path_factory.mktemp("manifests"))


def test_the_number_of_workers_changes_nothing(corpus: Path, tmp_path: Path) -> None:
    synthesize_corpus(tmp_path, config=CONFIG, num_workers=3)
    assert contents(tmp_path) == contents(corpus)


def test_the_folder_holds_the_listed_audio_and_nothing_else(corpus: Path) -> None:
    listed = {u.path for part in ("train", "dev", "test") for u in read_index(index_path(corpus, part))}
    assert {path for path in contents(corpus) if path.startswith("audio/")} == listed
    assert {path.name for path in corpus.iterdir()} == {
        *("settings.json", "report.json", "audio"),
        *("utterances_train.jsonl", "utterances_dev.jsonl", "utterances_test.jsonl"),
    }


@pytest.mark.parametrize("seconds_alive", [0.4, 1.0, 1.8])
def test_a_killed_run_goes_on_to_the_same_content(corpus: Path, tmp_path: Path, seconds_alive: float) -> None:
    program = (
        "from pathlib import Path; from valle.corpora.espeak import EspeakConfig, synthesize_corpus;"
        f"synthesize_corpus(Path({str(tmp_path)!r}), config={CONFIG!r}, num_workers=2)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "settings.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(seconds_alive)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert synthesize_corpus(tmp_path, config=CONFIG, num_workers=1).parts.keys() == {"train", "dev", "test"}
    assert contents(tmp_path) == contents(corpus)


def test_audio_written_ahead_by_a_killed_run_is_removed(corpus: Path, tmp_path: Path) -> None:
    synthesize_corpus(tmp_path, config=CONFIG)
    (tmp_path / "report.json").unlink()
    index_path(tmp_path, "train").unlink()
    ahead = tmp_path / "audio" / "train" / "train-099-of-more" / "train-00099999.wav"
    ahead.parent.mkdir()
    ahead.write_bytes(b"half")
    ahead.with_name(".train-00000001.wav.tmp").write_bytes(b"half")
    synthesize_corpus(tmp_path, config=CONFIG)
    assert contents(tmp_path) == contents(corpus)


def test_a_finished_corpus_is_left_alone(corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    report = synthesize_corpus(corpus, config=CONFIG, num_workers=2)
    assert not report.is_new
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_other_settings_replace_the_corpus(tmp_path: Path) -> None:
    small = replace(CONFIG, num_hours=0.01, dev_minutes=0.1, test_minutes=0.1)
    other = replace(small, seed=8, num_voices=4)
    synthesize_corpus(tmp_path / "changed", config=small)
    before = contents(tmp_path / "changed")
    report = synthesize_corpus(tmp_path / "changed", config=other)
    synthesize_corpus(tmp_path / "fresh", config=other)
    assert report.is_new
    assert contents(tmp_path / "changed") == contents(tmp_path / "fresh") != before


def test_more_hours_begin_with_the_same_utterances(corpus: Path, tmp_path: Path) -> None:
    shorter = replace(CONFIG, num_hours=0.03)
    synthesize_corpus(tmp_path, config=shorter)
    few, many = (list(read_index(index_path(path, "train"))) for path in (tmp_path, corpus))
    assert few == many[: len(few)]


def test_each_part_is_as_long_as_asked_and_not_an_utterance_longer(corpus: Path) -> None:
    report = synthesize_corpus(corpus, config=CONFIG)
    for part, size in report.parts.items():
        utterances = list(read_index(index_path(corpus, part)))
        assert len(utterances) == size.num_utterances
        assert sum(u.num_samples for u in utterances) / 16_000 == pytest.approx(size.seconds, abs=1e-3)
        last = utterances[-1].num_samples / 16_000
        assert size.seconds - last < CONFIG.seconds_of(part) <= size.seconds


def test_progress_ends_at_all_that_was_wanted(tmp_path: Path) -> None:
    small = replace(CONFIG, num_hours=0.01, dev_minutes=0.1, test_minutes=0.1)
    calls: list[tuple[float, float]] = []
    report: SynthesisReport = synthesize_corpus(tmp_path, config=small, progress=lambda done, all_: calls.append((done, all_)))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][0] == pytest.approx(sum(size.seconds for size in report.parts.values()), abs=0.01)
    assert {wanted for _, wanted in calls} == {small.total_seconds}


def test_parts_share_no_sentence(cuts: dict[str, CutSet]) -> None:
    for part, its_cuts in cuts.items():
        for cut in its_cuts:
            text = cut.supervisions[0].text.replace("?", ".")
            assert all(part_of(sentence) == part for sentence in text.split(".") if sentence.strip())


def test_test_has_voices_of_its_own_beside_those_of_train(cuts: dict[str, CutSet]) -> None:
    def speakers(part: str, *, seen: bool) -> set[str]:
        supervisions = (cut.supervisions[0] for cut in cuts[part])
        return {s.speaker for s in supervisions if s.custom["voice_is_in_train"] is seen}

    assert len(speakers("train", seen=True)) == CONFIG.num_voices
    assert speakers("train", seen=False) == speakers("dev", seen=False) == set()
    assert len(speakers("test", seen=False)) == CONFIG.num_test_voices
    assert not speakers("test", seen=False) & speakers("train", seen=True)
    assert speakers("test", seen=True) <= speakers("train", seen=True)
    assert speakers("dev", seen=True) <= speakers("train", seen=True)


def test_cuts_load_and_last_three_to_twelve_seconds(cuts: dict[str, CutSet]) -> None:
    for its_cuts in cuts.values():
        for cut in its_cuts:
            audio = cut.load_audio()
            assert audio.shape == (1, cut.num_samples)
            assert cut.sampling_rate == 16_000
            assert CONFIG.min_seconds <= cut.duration <= CONFIG.max_seconds
            assert np.abs(audio).max() > 0.1


def test_alignments_hold_every_word_and_fit_the_cut(cuts: dict[str, CutSet]) -> None:
    for cut in cuts["dev"]:
        supervision = cut.supervisions[0]
        assert [item.symbol for item in supervision.alignment["word"]] == words_of(supervision.text)
        assert len(supervision.alignment["phone"]) > len(supervision.alignment["word"])
        for kind in ("word", "phone"):
            assert all(item.start >= 0 and item.end <= cut.duration + 1e-3 for item in supervision.alignment[kind])


def test_equal_corpora_give_equal_manifests(corpus: Path, tmp_path: Path) -> None:
    """gzip embeds the time, so equal manifests would differ."""
    prepare_espeak(corpus, tmp_path / "first")
    time.sleep(1.1)
    prepare_espeak(corpus, tmp_path / "second")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_written_cuts_read_back_equal(cuts: dict[str, CutSet], tmp_path: Path) -> None:
    assert write_cuts(cuts["dev"], tmp_path / "cuts.jsonl.gz") == len(list(cuts["dev"]))
    assert list(CutSet.from_jsonl_lazy(tmp_path / "cuts.jsonl.gz")) == list(cuts["dev"])
    assert [path.name for path in tmp_path.iterdir()] == ["cuts.jsonl.gz"]


def test_an_index_line_reads_back_equal(corpus: Path) -> None:
    for utterance in read_index(index_path(corpus, "dev")):
        assert Utterance.from_dict(utterance.to_dict()) == utterance


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hours": 0.0},
        {"num_hours": float("inf")},
        {"dev_minutes": -1.0},
        {"test_minutes": float("nan")},
        {"num_voices": 0},
        {"num_test_voices": 0},
        {"min_seconds": 10.0, "max_seconds": 12.0},
        {"max_seconds": 61.0},
        {"min_seconds": 0.0},
    ],
)
def test_settings_that_cannot_be_met_are_refused_in_one_sentence(settings: dict[str, float]) -> None:
    with pytest.raises(EspeakConfigError) as caught:
        EspeakConfig(**settings)  # type: ignore[arg-type]
    assert isinstance(caught.value, UserError)
    assert "found" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_with_other_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EspeakDirectoryError, match="other files"):
        synthesize_corpus(tmp_path, config=CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_settings_of_another_program_are_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"theme": "dark"}')
    (tmp_path / "audio").mkdir()
    with pytest.raises(EspeakDirectoryError):
        synthesize_corpus(tmp_path, config=CONFIG)
    assert (tmp_path / "audio").exists()


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EspeakConfigError, match="at least 1 worker"):
        synthesize_corpus(tmp_path, config=CONFIG, num_workers=0)


def test_stage_one_before_stage_zero_says_so(tmp_path: Path) -> None:
    with pytest.raises(EspeakDirectoryError, match="run stage 0 first"):
        prepare_espeak(tmp_path, tmp_path / "manifests")
    assert not (tmp_path / "manifests").exists()
