"""Synthesisers behind one interface: the user's command, Kokoro's folder, and what is missing said in one sentence."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from valle.corpora.speech_config import CorpusConfigError
from valle.corpora.synthetic.command import CommandSynthesiser
from valle.corpora.synthetic.corpus import SyntheticConfig
from valle.corpora.synthetic.hibari import HibariSynthesiser
from valle.corpora.synthetic.kokoro import KokoroSynthesiser
from valle.corpora.synthetic.registry import SYNTHESISERS
from valle.corpora.synthetic.synthesiser import Synthesiser

PROGRAM = shlex.join([sys.executable, "-S", "-E", str(Path(__file__).parents[1] / "tiny_command.py")])
COMMAND = PROGRAM + " {text} {voice} {output} {speed}"
SILENCE = (
    "import sys, wave; file = wave.open(sys.argv[1], 'wb'); file.setparams((1, 2, 16000, 0, 'NONE', '')); file.writeframes(bytes(9000))"
)
TEXT = "The king sold 'seven' {text} apples; $HOME `ls`"


def python(program: str) -> str:
    """A command line that runs a program and then ends with {output}."""
    return shlex.join([sys.executable, "-S", "-E", "-c", program]) + " {output}"


def speak(synthesiser: Synthesiser, text: str = TEXT, *, index: int = 0, speed: float = 1.0) -> np.ndarray:
    with synthesiser.open() as speaker:
        return speaker.speak(text, synthesiser.base_voice(index, is_held_out=False, seed=0), speed=speed, seed=1).samples


def test_a_command_speaks_without_a_shell_and_at_the_speed_it_is_asked_for() -> None:
    command = CommandSynthesiser(COMMAND, voices="low,high")
    usual = speak(command)
    assert len(usual) == pytest.approx(len(TEXT) * 0.07 * 16_000, rel=0.01)  # every character arrived, whatever a shell makes of it
    assert len(speak(command, speed=2.0)) == pytest.approx(len(usual) / 2, rel=0.01)
    assert not np.array_equal(usual, speak(command, index=1))
    assert command.has_speed and not CommandSynthesiser(PROGRAM + " {text} low {output}").has_speed


def test_text_without_a_place_is_the_commands_standard_input() -> None:
    program = (
        "import sys, wave; text = sys.stdin.read(); file = wave.open(sys.argv[1], 'wb'); file.setparams((1, 2, 16000, 0, 'NONE', ''));"
        "file.writeframes(b'ab' * 1000 * len(text))"
    )
    assert len(speak(CommandSynthesiser(python(program)), "seven")) == 5000


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (python("import sys; print('no such voice', file=sys.stderr); sys.exit(3)"), r"found 3 \(no such voice\)"),
        (python("pass"), "in the file given as {output}, found none"),
        (python("import sys; open(sys.argv[1], 'w').write('text')"), "found none"),
        (python(SILENCE), "of silence"),
        ("no-such-program-here {output}", "found that it cannot be"),
        (python("import time; time.sleep(60)"), "within 1 s, found it running on"),
    ],
)  # fmt: skip
def test_a_command_that_fails_is_told_in_one_sentence(command: str, message: str) -> None:
    with pytest.raises(CorpusConfigError, match=message):
        speak(CommandSynthesiser(command, seconds=1.0 if "sleep" in command else 60.0))


@pytest.mark.parametrize(
    ("command", "voices"), [("", ""), ("piper", ""), ("piper {output} {voice}", ""), ("piper {output}", "a"), ("piper '{output}", "")]
)
def test_a_command_line_that_lacks_something_is_refused(command: str, voices: str) -> None:
    with pytest.raises(CorpusConfigError, match=r"expected .*found"):
        SyntheticConfig(synthesisers="command", command=command, command_voices=voices)


@pytest.mark.parametrize("name", SYNTHESISERS)
def test_what_is_not_at_hand_is_said_with_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the synthesisers that need a package or an option, none is made without."""
    if name == "espeak":
        assert SyntheticConfig(synthesisers=name).shares == {"espeak": 1.0}
        return
    import valle.corpora.synthetic.hibari as hibari
    import valle.corpora.synthetic.kokoro as kokoro

    for module in (hibari, kokoro):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(CorpusConfigError, match=r"(pip install -e \.\[synthetic\]|expected .*found)"):
        SyntheticConfig(synthesisers=name)


@pytest.mark.skipif(find_spec("hibari") is None, reason="hibari-tts is not installed; pip install -e .[synthetic]")
def test_kokoro_without_a_folder_says_what_belongs_there(tmp_path: Path) -> None:
    for folder in (None, tmp_path, tmp_path / "nothing"):
        with pytest.raises(CorpusConfigError, match=r"one \.onnx file and voices/af_heart\.bin"):
            KokoroSynthesiser(folder)


@pytest.mark.skipif(find_spec("hibari") is None, reason="hibari-tts is not installed; pip install -e .[synthetic]")
def test_kokoro_holds_back_every_sixth_english_voice_and_knows_its_files(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    names = ["af_a", "af_b", "am_c", "am_d", "bf_e", "bm_f"]
    for name in [*names, "jf_not_english"]:
        (tmp_path / "voices" / f"{name}.bin").write_bytes(bytes(4 * 256))
    (tmp_path / "model.onnx").write_bytes(b"a model")
    kokoro = KokoroSynthesiser(tmp_path)
    assert {kokoro.base_voice(index, is_held_out=False, seed=0).name for index in range(12)} == set(names[:5])
    held_out = kokoro.base_voice(3, is_held_out=True, seed=0)
    assert held_out.name == "bm_f" and held_out.is_female is False
    before = kokoro.fingerprint()
    (tmp_path / "voices" / "am_c.bin").write_bytes(bytes(8 * 256))
    assert kokoro.fingerprint() != before


@pytest.mark.skipif(find_spec("hibari") is None, reason="hibari-tts is not installed; pip install -e .[synthetic]")
def test_hibari_speaks_natural_seconds_at_the_speed_it_is_asked_for() -> None:
    hibari = HibariSynthesiser()
    usual, slow = speak(hibari, "The young king sold seven apples."), speak(hibari, "The young king sold seven apples.", speed=0.7)
    assert 24_000 < len(usual) < 4 * 24_000
    assert 1.25 < len(slow) / len(usual) < 1.6
