"""What transcribes: programs and class alike, a speech-llama or a joint-lm by its own folder, and the pictures of similarity."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_speech import RATE
from tiny_transcribed import sentence, spoken, tiny_speech_llama

from valle.audio import write_wav
from valle.errors import UserError
from valle.inference import transcriber as transcriber_module
from valle.inference.asking import TranscribeOptions, transcribe
from valle.inference.transcriber import Transcriber, load_listener
from valle.models.speech_llama_released import ReleasedSpeechLlama, load_speech_llama, save_speech_llama


@pytest.fixture(scope="module")
def llama() -> ReleasedSpeechLlama:
    return tiny_speech_llama()


@pytest.fixture(scope="module")
def house(llama: ReleasedSpeechLlama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in a folder, and recordings."""
    folder = tmp_path_factory.mktemp("house")
    save_speech_llama(llama, folder / "llama", dtype=torch.float32)
    for number in range(2):
        write_wav(folder / f"{number}.wav", spoken(sentence(number)), RATE)
    return folder


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights seldom come to an end."""
    monkeypatch.setattr(transcriber_module, "MOST_PIECES", 12)


def test_recordings_are_transcribed_alone_as_together_in_every_way(llama: ReleasedSpeechLlama) -> None:
    transcriber, recordings = Transcriber(llama), [spoken(sentence(number)) for number in range(4)]
    for way in ("llama", "ctc", "text"):
        together = transcriber.transcribe(recordings, RATE, by=way)  # type: ignore[arg-type]
        assert together == [transcriber.transcribe(one, RATE, by=way)[0] for one in recordings]  # type: ignore[arg-type]
    assert transcriber.transcribe(recordings, RATE) == transcriber.transcribe(recordings, RATE, draft_tokens=2)
    english, spanish = (transcriber.transcribe(recordings, RATE, language=language) for language in ("English", "Spanish"))
    assert english != spanish, "the prompt names the language"


def test_loudness_changes_no_transcript(llama: ReleasedSpeechLlama) -> None:
    transcriber, wav, text = Transcriber(llama), spoken(sentence(5)), sentence(5)
    assert transcriber.transcribe(wav, RATE) == transcriber.transcribe(wav * 0.25, RATE)
    one, other = (transcriber.similarity(wav * factor, RATE, text=text) for factor in (1.0, 0.25))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_similarities_are_cosines_of_pieces_and_speech(llama: ReleasedSpeechLlama) -> None:
    transcriber, text = Transcriber(llama), sentence(2)
    cosines = transcriber.similarity(spoken(text), RATE, text=text)
    seconds = len(spoken(text)) / RATE
    assert cosines.shape == (len(transcriber.pieces(text)), int(np.ceil(seconds / 0.08))) and np.abs(cosines).max() <= 1.001


def test_the_program_writes_what_the_class_says(llama: ReleasedSpeechLlama, house: Path, tmp_path: Path) -> None:
    audio, transcriber = [house / "0.wav", house / "1.wav"], Transcriber(llama)
    options = TranscribeOptions(model=house / "llama", audio=audio, output=tmp_path / "said.tsv", similarity_dir=tmp_path / "pictures")
    found = transcribe(options)
    wanted = transcriber.transcribe([spoken(sentence(number)) for number in range(2)], RATE, language="English")
    assert [text for _, text in found] == wanted and all(wanted)
    assert (tmp_path / "said.tsv").read_text() == "".join(f"{path}\t{text}\n" for path, text in zip(audio, wanted, strict=True))
    assert Image.open(tmp_path / "pictures" / "0.png").size[0] > 100
    by_ctc = transcribe(TranscribeOptions(model=house / "llama", audio=audio, by="ctc"))
    assert [text for _, text in by_ctc] == transcriber.transcribe([spoken(sentence(number)) for number in range(2)], RATE, by="ctc")


def test_what_is_too_long_or_another_model_is_refused(llama: ReleasedSpeechLlama, house: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a recording of 0\.1 to 1\.2 s"):
        Transcriber(llama).transcribe(np.tile(spoken("aei"), 9), RATE)
    with pytest.raises(UserError, match="expected llama, ctc, text"):
        Transcriber(llama).transcribe(spoken("aei"), RATE, by="whisper")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="needs as many draft heads, found 2"):
        Transcriber(llama).transcribe(spoken("aei"), RATE, draft_tokens=5)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.yaml").write_text("model: {speech-llama: 3}")
    with pytest.raises(UserError, match="damaged"):
        load_speech_llama(tmp_path)
    assert isinstance(load_listener(house / "llama"), Transcriber)


def test_a_program_runs_from_the_command_line(house: Path) -> None:
    program = Path(__file__).parents[2] / "valle" / "bin" / "transcribe.py"
    words = [sys.executable, str(program), "--model", str(house / "llama"), "--audio", str(house / "0.wav")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith(f"{house / '0.wav'}\t"), done.stderr
