"""Text and speech by one model, through its class and its programs: an untrained one, whose answers obey the same laws."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_pipeline import RATE, recording, tiny_kmeans, tiny_released
from tiny_texts import texts

from valle.errors import UserError
from valle.inference.asking import SpeakOptions, TranscribeOptions, TranslateOptions, speak, transcribe, translate
from valle.inference.pipeline import Pipeline
from valle.inference.text_speech import TextSpeech
from valle.models.joint_config import JointLMConfig
from valle.models.joint_lm import JointLM
from valle.models.joint_released import ReleasedJoint, save_joint
from valle.models.released import save_released
from valle.tokenizers.text_pieces import fit_text_pieces

TASKS = ("ASR", "TTS", "MT", "AST", "S2ST", "ASR+AST+S2ST")


@pytest.fixture(scope="module")
def joint() -> ReleasedJoint:
    text = fit_text_pieces([text for number in range(200) for text in texts(number)], num_pieces=400)
    torch.manual_seed(0)
    model = JointLM(JointLMConfig(d_model=16, nhead=2, num_layers=1, dim_feedforward=32, num_pieces=text.num_pieces, num_units=12)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    return ReleasedJoint(model=model, text=text, semantic=tiny_kmeans(), tasks=TASKS, longest_seconds=1.0)


@pytest.fixture(scope="module")
def speech(joint: ReleasedJoint) -> TextSpeech:
    return TextSpeech(joint, voice_model=Pipeline(tiny_released()))


@pytest.fixture(scope="module")
def house(joint: ReleasedJoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models in folders, and a recording."""
    folder = tmp_path_factory.mktemp("house")
    save_joint(joint, folder / "joint", dtype=torch.float32)
    save_released(tiny_released(), folder / "audio-lm", dtype=torch.float32)
    soundfile.write(folder / "a.wav", recording(1.0), RATE)
    return folder


def test_units_sound_as_long_as_they_last_in_the_voice_of_a_prompt_that_is_not_among_them(speech: TextSpeech) -> None:
    assert speech.voice_model is not None
    units = torch.arange(20) % 12
    sound, longer = (speech.voice_model.speak_units(units, recording(seconds), RATE, seed=1) for seconds in (1.3, 3.0))
    assert len(sound) == len(longer) == 20 * 640 and sound.dtype == np.float32
    repeated = np.tile(recording(1.3), 3)[: 3 * RATE]
    np.testing.assert_array_equal(sound, speech.voice_model.speak_units(units, repeated, RATE, seed=1))
    other = speech.voice_model.speak_units(units, recording(3.0, seed=2), RATE, seed=1)
    assert not np.array_equal(longer, other), "the voice counts"


def test_sentences_are_spoken_alone_as_together(speech: TextSpeech) -> None:
    sentences, voice = [texts(0)[0], texts(3)[0]], recording(3.0)
    one, two = speech.speak(sentences, language="English", voice=voice, voice_sample_rate=RATE, seed=5)
    [again] = speech.speak(sentences[:1], language="English", voice=voice, voice_sample_rate=RATE, seed=5)
    np.testing.assert_array_equal(one, again)
    assert len(one) > 0 and len(two) <= 1.25 * 1.0 * RATE


def test_a_chain_gives_a_transcript_a_translation_and_units(speech: TextSpeech) -> None:
    [found] = speech.translate_audio(recording(0.8), RATE, source="English", target="Spanish", task="ASR+AST+S2ST", seed=1)
    [direct] = speech.translate_audio(recording(0.8), RATE, source="English", target="Spanish", task="S2ST", seed=1)
    assert found.units is not None and direct.units is not None and direct.text == direct.transcript == ""


def test_a_voice_model_of_other_units_is_refused(joint: ReleasedJoint) -> None:
    other = tiny_released()
    assert other.semantic is not None
    other.semantic.centroids.add_(1)
    with pytest.raises(UserError, match="expected a voice model of the joint-lm's own units"):
        TextSpeech(joint, voice_model=Pipeline(other))
    with pytest.raises(UserError, match="the model has, found"):
        replace(joint, semantic=None)


def test_the_programs_write_what_the_class_says(speech: TextSpeech, house: Path, tmp_path: Path) -> None:
    model, audio, sentence = house / "joint", house / "a.wav", texts(0)[0]
    [(path, text)] = transcribe(TranscribeOptions(model=model, audio=[audio], output=tmp_path / "said.tsv"))
    assert [text] == speech.transcribe(*soundfile.read(audio, dtype="float32"), language="English") and path == audio
    assert (tmp_path / "said.tsv").read_text() == f"{audio}\t{text}\n"
    voice = {"voice_model": str(house / "audio-lm"), "voice": audio, "output_dir": tmp_path / "spoken"}
    [(wav, spoken)] = speak(SpeakOptions(model=model, text=[sentence], **voice))  # type: ignore[arg-type]
    assert spoken == sentence and soundfile.info(wav).frames > 0
    [answer] = translate(TranslateOptions(model=model, text=[sentence]))
    assert [answer.text] == speech.translate([sentence], source="English", target="Spanish")
    translate(TranslateOptions(model=model, audio=[audio], task="S2ST", **voice))  # type: ignore[arg-type]
    assert (tmp_path / "spoken" / "a.wav").is_file()


@pytest.mark.parametrize("options", [SpeakOptions, TranslateOptions, TranscribeOptions])
def test_a_program_that_is_given_nothing_says_what_it_expects(options: type) -> None:
    with pytest.raises(UserError, match="expected"):
        options()


def test_a_program_runs_from_the_command_line(house: Path) -> None:
    program = Path(__file__).parents[2] / "valle" / "bin" / "translate.py"
    words = [sys.executable, str(program), "--model", str(house / "joint"), "--text", texts(0)[0]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done.stderr
