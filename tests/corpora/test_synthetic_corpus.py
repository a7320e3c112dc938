"""egs/synthetic's stages 0 and 1: an utterance is a function of (settings, part, number), whoever speaks."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet

from valle.corpora import speech_writer
from valle.corpora.espeak_grammar import part_of, words_of
from valle.corpora.speech_config import CorpusDirectoryError
from valle.corpora.speech_writer import index_path, read_index
from valle.corpora.synthetic.corpus import SyntheticConfig, prepare_synthetic, synthesize_synthetic
from valle.corpora.synthetic.utterance import SyntheticSpeaker, SyntheticUtterance

COMMAND = shlex.join([sys.executable, "-S", "-E", str(Path(__file__).parents[1] / "tiny_command.py")]) + " {text} {voice} {output} {speed}"
CONFIG = SyntheticConfig(
    synthesisers="espeak=2,command=1", command=COMMAND, command_voices="low,high", num_hours=0.012, dev_minutes=0.1, test_minutes=0.4,
    num_voices=6, num_test_voices=2, seed=7, max_seconds=7,
)  # fmt: skip
HAS_HIBARI = find_spec("hibari") is not None
needs_hibari = pytest.mark.skipif(not HAS_HIBARI, reason="hibari-tts is not installed; pip install -e .[synthetic]")


def contents(directory: Path) -> dict[str, str]:
    """Digest of every file by its path."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    """Of two utterances instead of sixteen, which changes nothing but how much is spoken in vain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_writer, "UTTERANCES_PER_SHARD", 2)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("synthetic") / "corpus"
    synthesize_synthetic(directory, config=CONFIG, num_workers=1)
    return directory


@pytest.fixture(scope="module")
def cuts(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CutSet]:
    return prepare_synthetic(corpus, tmp_path_factory.mktemp("manifests"))


def test_workers_and_interruptions_change_nothing(corpus: Path, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(done: float, wanted: float) -> None:
        if done > wanted / 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        synthesize_synthetic(tmp_path, config=CONFIG, num_workers=2, progress=interrupt)
    assert not (tmp_path / "report.json").exists()
    synthesize_synthetic(tmp_path, config=CONFIG, num_workers=2)
    assert contents(tmp_path) == contents(corpus)


def test_an_utterance_is_the_same_alone_as_in_the_corpus(corpus: Path) -> None:
    written = list(read_index(index_path(corpus, "train"), SyntheticUtterance.from_dict))
    with SyntheticSpeaker(CONFIG) as speaker:
        utterance, samples = speaker.speak_utterance("train", 4)
    assert utterance == written[4]
    sound = (corpus / utterance.path).read_bytes()
    assert sound.endswith(samples.astype("<i2").tobytes())


def test_a_finished_corpus_of_these_settings_is_left_alone_and_of_others_replaced(corpus: Path, tmp_path: Path) -> None:
    assert not synthesize_synthetic(corpus, config=CONFIG).is_new
    small = replace(CONFIG, synthesisers="espeak", num_hours=0.005, dev_minutes=0.1, test_minutes=0.1)
    assert synthesize_synthetic(tmp_path, config=small).is_new
    assert synthesize_synthetic(tmp_path, config=replace(small, seed=8)).is_new


def test_every_synthesiser_has_its_share_of_the_voices(cuts: dict[str, CutSet]) -> None:
    speakers = {cut.supervisions[0].speaker: cut.supervisions[0].custom["synthesiser"] for cut in cuts["train"]}
    assert sorted(speakers.values()) == ["command"] * 2 + ["espeak"] * 4


def test_parts_share_no_sentence_and_test_has_voices_of_its_own(cuts: dict[str, CutSet]) -> None:
    for part, its_cuts in cuts.items():
        for cut in its_cuts:
            text = cut.supervisions[0].text.replace("?", ".")
            assert all(part_of(sentence) == part for sentence in text.split(".") if sentence.strip())
    in_train = {cut.supervisions[0].speaker for cut in cuts["train"]}
    only_in_test = {cut.supervisions[0].speaker for cut in cuts["test"] if not cut.supervisions[0].custom["voice_is_in_train"]}
    assert len(only_in_test) == 2 and not only_in_test & in_train


def test_cuts_say_how_a_voice_was_made_and_words_have_times_where_they_are_known(cuts: dict[str, CutSet]) -> None:
    for cut in cuts["train"]:
        supervision = cut.supervisions[0]
        assert CONFIG.min_seconds <= cut.duration <= CONFIG.max_seconds
        assert np.abs(cut.load_audio()).max() > 0.1
        if supervision.custom["synthesiser"] == "espeak":
            assert [item.symbol for item in supervision.alignment["word"]] == words_of(supervision.text)
            assert supervision.custom["pitch"] == 1.0 and supervision.gender in ("female", "male")
        else:
            assert supervision.alignment is None and supervision.gender is None
            assert supervision.custom["base_voice"] in ("low", "high") and supervision.custom["pitch"] != 1.0


def test_manifests_before_audio_say_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusDirectoryError, match="run stage 0 first"):
        prepare_synthetic(tmp_path, tmp_path / "manifests")


@needs_hibari
def test_hibari_speaks_the_same_utterance_whenever_it_is_asked() -> None:
    config = replace(CONFIG, synthesisers="hibari")
    with SyntheticSpeaker(config) as first, SyntheticSpeaker(config) as second:
        second.speak_utterance("train", 0)
        for (utterance, samples), (again, samples_again) in zip(
            (first.speak_utterance("train", number) for number in (2, 3)), (second.speak_utterance("train", number) for number in (2, 3)),
            strict=True,
        ):  # fmt: skip
            assert utterance == again and np.array_equal(samples, samples_again)
            assert config.min_seconds <= len(samples) / 16_000 <= config.max_seconds


@needs_hibari
def test_hibari_never_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with SyntheticSpeaker(replace(CONFIG, synthesisers="hibari")) as speaker:
        utterance, samples = speaker.speak_utterance("dev", 0)
    assert utterance.num_samples == len(samples) > 0
