import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fake_whisper import FakeWhisper, segment
from tiny_audio import sound

from valle.corpora.espeak_synthesiser import SAMPLE_RATE, EspeakSynthesiser
from valle.corpora.espeak_voices import training_voice
from valle.evaluation.recogniser import Heard, RecogniserError, Segment, WhisperRecogniser, whisper_recogniser
from valle.evaluation.remembered import RememberingRecogniser
from valle.measures.words import words_of_speech

HAS_PACKAGE = find_spec("faster_whisper") is not None
FOLDER = os.environ.get("VALLE_WHISPER", "")  # a folder of a Whisper model, for the test with the real one


def test_whisper_is_asked_greedily_in_the_given_language_without_the_clip_before() -> None:
    fake = FakeWhisper(lambda audio: [segment(" Anna saw 2 lamps.")])
    judge = WhisperRecogniser(fake, name="fake", language="de")
    assert judge.hear(sound(1.0, rate=24000), 24000).words == ["anna", "saw", "two", "lamps"]
    [asked] = fake.asked
    assert asked["samples"] == 16000 and asked["language"] == "de"
    assert (asked["beam_size"], asked["temperature"], asked["condition_on_previous_text"]) == (1, 0.0, False)


def test_silence_is_heard_as_nothing() -> None:
    judge = WhisperRecogniser(FakeWhisper(lambda audio: [segment("Thank you.")]), name="fake")
    assert judge.hear(np.zeros(16000, np.float32), 16000) == Heard(())


def test_a_sound_that_was_heard_is_not_heard_again_not_even_after_half_a_line_was_written(tmp_path: Path) -> None:
    fake, path = FakeWhisper(lambda audio: [segment(f"{len(audio)} lamps")]), tmp_path / "heard.jsonl"
    wavs = [sound(seconds, seed=1) for seconds in (0.5, 0.6)]
    before = [RememberingRecogniser(WhisperRecogniser(fake, name="fake"), path).hear(wav, 16000) for wav in wavs]
    path.write_text(path.read_text()[:-20])
    judge = RememberingRecogniser(WhisperRecogniser(fake, name="fake"), path)
    assert [judge.hear(wav, 16000) for wav in wavs] == before and len(fake.asked) == 3
    other = RememberingRecogniser(WhisperRecogniser(fake, name="other"), path)
    assert other.hear(wavs[0], 16000) == before[0] and len(fake.asked) == 4
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("doubtful", "doubt"),
    [
        (Segment("Thank you.", -1.4, 1.0, 0.2), "unsure"),
        (Segment("Anna saw it", -0.2, 2.9, 0.2), "compressible"),
        (Segment("Thank you.", -0.2, 1.0, 0.9), "no speech"),
        (Segment("the cat the cat the cat", -0.2, 1.9, 0.1), "repetition"),
    ],
)
def test_hallucinated_words_are_not_counted_but_stay_in_the_text(doubtful: Segment, doubt: str) -> None:
    heard = Heard((Segment("Peter ran.", -0.2, 1.1, 0.0), doubtful))
    assert heard.doubts == (doubt,) and heard.words == ["peter", "ran"]
    assert doubtful.text in heard.text


@pytest.mark.skipif(not HAS_PACKAGE, reason="needs the extra judges")
def test_a_missing_model_is_one_line_that_says_which_files_go_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "config.json").write_text("{}")
    for name in (str(tmp_path), str(tmp_path / "nothing")):
        with pytest.raises(RecogniserError) as refused:
            whisper_recogniser(name)
        said = str(refused.value)
        assert "model.bin" in said and "tokenizer.json" in said and "--whisper FOLDER" in said and "\n" not in said


@pytest.mark.skipif(HAS_PACKAGE, reason="faster-whisper is installed")
def test_a_missing_package_is_one_line_that_says_what_to_install() -> None:
    with pytest.raises(RecogniserError, match="pip install faster-whisper"):
        whisper_recogniser("base")


@pytest.mark.skipif(not (HAS_PACKAGE and FOLDER), reason="needs the extra judges and VALLE_WHISPER, a folder of a Whisper model")
def test_the_real_whisper_hears_most_words_of_synthetic_speech() -> None:
    text = "Anna found the green bottle near the river."
    with EspeakSynthesiser() as synthesiser:
        speech = synthesiser.speak(text, training_voice(0, seed=0))
    heard = whisper_recogniser(FOLDER).hear(speech.samples.astype("float32") / 32768, SAMPLE_RATE)
    assert len(set(words_of_speech(text)) & set(heard.words)) >= 4, heard
