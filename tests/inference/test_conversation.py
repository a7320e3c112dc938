"""A conversation through its class and its program: an untrained model, whose turns obey the same laws."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_dialogues import tiny_conversation
from tiny_pipeline import RATE, recording

from valle.errors import UserError
from valle.inference.conversation import Conversation, Line
from valle.inference.conversing import ConverseOptions, converse, read_script
from valle.models.conversation_released import ReleasedConversation, load_conversation, save_conversation

SCRIPT = "Anna\tWho lost the hat?\ta.wav\nPeter\tThe king lost the hat.\tb.wav\n\nAnna\tWhere is it?\nPeter\tI see.\n"


@pytest.fixture(scope="module")
def released() -> ReleasedConversation:
    return tiny_conversation()


@pytest.fixture(scope="module")
def talk(released: ReleasedConversation) -> Conversation:
    return Conversation(released)


@pytest.fixture(scope="module")
def house(released: ReleasedConversation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in a folder, recordings and a script."""
    folder = tmp_path_factory.mktemp("house")
    save_conversation(released, folder / "model", dtype=torch.float32)
    for name, seed in (("a", 1), ("b", 2)):
        soundfile.write(folder / f"{name}.wav", recording(1.0, seed=seed), RATE, subtype="FLOAT")
    (folder / "talk.tsv").write_text(SCRIPT)
    return folder


def line(speaker: str, seed: int, text: str = "Who lost the hat?") -> Line:
    return Line(speaker=speaker, text=text, wav=recording(1.0, seed=seed), sample_rate=RATE)


def test_the_next_turn_depends_on_who_said_what_before(talk: Conversation) -> None:
    earlier = [line("Anna", 1), line("Peter", 2)]
    sound = talk.next_turn(earlier, speaker="Anna", text="Where is it?", seed=4)
    assert sound.dtype == np.float32 and 0.2 * talk.sample_rate <= len(sound) <= 1.25 * talk.sample_rate
    again = talk.next_turn(earlier, speaker="Anna", text="Where is it?", seed=4)
    np.testing.assert_array_equal(sound, again)
    for changed, said in (([line("Anna", 3), earlier[1]], "Where is it?"), (earlier[1:], "Where is it?"), (earlier, "The lamp is red.")):
        assert not np.array_equal(sound, talk.next_turn(changed, speaker="Anna", text=said, seed=4))


def test_turns_that_were_made_are_what_later_turns_hear(talk: Conversation) -> None:
    lines = [line("Anna", 1), Line(speaker="Peter", text="I see."), Line(speaker="Anna", text="Where is it?")]
    first, second = talk.perform(lines, seed=2, watermark=False)
    np.testing.assert_array_equal(first, talk.next_turn(lines[:1], speaker="Peter", text="I see.", seed=2, watermark=False))
    alone = talk.perform([lines[0], lines[2]], seed=3, watermark=False)
    assert not np.array_equal(second, alone[0])


def test_a_long_talk_is_seen_by_its_end_and_the_speakers_own_last_turn(talk: Conversation) -> None:
    others = [line("Peter", seed) for seed in range(5)]
    full = talk.next_turn([line("Anna", 9), *others], speaker="Anna", text="I see.", seed=1)
    cut = talk.next_turn([line("Anna", 9), *others[2:]], speaker="Anna", text="I see.", seed=3)  # a turn's number counts in its seed
    np.testing.assert_array_equal(full, cut)  # 4 s are in sight: Anna's second and three of Peter's


def test_the_program_writes_the_turns_that_have_no_recording(talk: Conversation, house: Path, tmp_path: Path) -> None:
    made = converse(ConverseOptions(model=house / "model", script=house / "talk.tsv", output_dir=tmp_path / "out", seed=5))
    assert [path.name for path, _ in made] == ["0003.wav", "0004.wav"] and made[1][1].text == "I see."
    sounds = talk.perform(read_script(house / "talk.tsv"), seed=5)
    for (path, _), sound in zip(made, sounds, strict=True):
        assert soundfile.info(path).frames == len(sound)
    seconds = 2.0 + sum(map(len, sounds)) / talk.sample_rate + 3 * 0.3
    assert soundfile.info(tmp_path / "out" / "conversation.wav").duration == pytest.approx(seconds, abs=0.01)


def test_a_program_runs_from_the_command_line(house: Path, tmp_path: Path) -> None:
    program = Path(__file__).parents[2] / "valle" / "bin" / "converse.py"
    words = ["--model", str(house / "model"), "--script", str(house / "talk.tsv"), "--output-dir", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, str(program), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("\n") == 2, done.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "expected turns in"), ("Anna: hello\n", "expected speaker, tab, text"), ("Anna\t\n", "expected speaker, tab, text"),
        ("Anna\thi\tnone.wav\n", "expected an audio file"), ("Anna\thi\ta.wav\n", "expected a turn without a recording"),
    ],
)  # fmt: skip
def test_a_script_that_cannot_be_is_refused(script: str, said: str, house: Path, tmp_path: Path) -> None:
    path = house / "other.tsv"
    path.write_text(script)
    with pytest.raises(UserError, match=said):
        converse(ConverseOptions(model=house / "model", script=path, output_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_heard_or_said_is_refused(talk: Conversation) -> None:
    long = replace(line("Anna", 1), wav=recording(5.0))
    for lines, said in (
        ([Line(speaker="Anna", text=" ")], "expected a speaker and a text"),
        ([long, Line(speaker="P", text="hi")], "expected recordings of"),
        ([replace(line("Anna", 1), sample_rate=0), Line(speaker="P", text="hi")], "expected a sample rate above 0"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            talk.perform(lines)
    with pytest.raises(UserError, match="a recording of every earlier turn"):
        talk.next_turn([Line(speaker="Anna", text="hi")], speaker="Anna", text="hi")


def test_a_folder_of_another_codec_or_without_a_model_is_refused(released: ReleasedConversation, house: Path, tmp_path: Path) -> None:
    other = replace(released, acoustic=tiny_conversation().acoustic)
    other.acoustic.decoder_input.weight.data.add_(1)
    save_conversation(other, tmp_path / "model", dtype=torch.float32)
    shutil.copy(house / "model" / "config.yaml", tmp_path / "model" / "config.yaml")
    (tmp_path / "kept").mkdir()
    with pytest.raises(UserError, match="was trained on tokens of"):
        load_conversation(tmp_path / "model")
    with pytest.raises(UserError, match="expected"):
        load_conversation(tmp_path / "kept")
