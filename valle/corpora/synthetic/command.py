"""Any other synthesiser (Piper, for one) by a command line of the user's, run without a shell for each utterance."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from valle.audio import read_audio
from valle.audio_source import AudioFileError
from valle.corpora.speech_config import CorpusConfigError
from valle.corpora.synthetic.synthesiser import BaseVoice, Sound, share_out

LEAST_SECONDS = 0.1  # a shorter sound is no sentence
_PLACEHOLDER = re.compile(r"\{(text|voice|output|speed|seed)\}")


@dataclass(frozen=True)
class CommandSynthesiser:
    """A command line whose words are filled in: ``{text}`` (else the text is its standard input), ``{voice}``, ``{output}``.

    ``{speed}`` is a factor of the tempo, 1 as usual; without it a voice's tempo goes with its pitch.  ``{seed}`` is a whole number, for
    programs that are random without one: a corpus can be made again exactly only if equal commands give equal sound.
    """

    command: str
    voices: str = ""
    seconds: float = 60.0
    name: str = "command"
    is_multiplied: bool = True

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise CorpusConfigError(f"expected a command line for --command, found {self.command!r} ({error}); close its quotes") from error
        if "{output}" not in self.command or not words:
            raise CorpusConfigError(
                f"expected a command line with {{output}} for --command, found {self.command!r}; write it as in "
                "--command 'piper --model {voice} --output_file {output}'"
            )
        if ("{voice}" in self.command) != bool(self.voice_names):
            raise CorpusConfigError(
                f"expected {{voice}} in --command and names in --command-voices, or neither, found {self.command!r} and "
                f"{self.voices!r}; give both"
            )
        if not 0 < self.seconds <= 3600:
            raise CorpusConfigError(f"--command-seconds must be above 0 and at most 3600, found {self.seconds:g}; give a time limit")

    @property
    def has_speed(self) -> bool:
        return "{speed}" in self.command

    @property
    def voice_names(self) -> list[str]:
        return [name.strip() for name in self.voices.split(",") if name.strip()]

    def base_voice(self, index: int, *, is_held_out: bool, seed: int) -> BaseVoice:
        names = share_out(self.voice_names or ["default"], is_held_out=is_held_out)
        return BaseVoice(name=names[index % len(names)])

    def fingerprint(self) -> dict[str, Any]:
        return {"command": self.command, "voices": self.voice_names}

    def open(self) -> CommandSpeaker:
        return CommandSpeaker(self.command, seconds=self.seconds)


class CommandSpeaker:
    """A folder for what the command writes."""

    def __init__(self, command: str, *, seconds: float) -> None:
        self._words = shlex.split(command)
        self._seconds = seconds
        self._folder = tempfile.TemporaryDirectory(prefix="valle-command-")

    def __enter__(self) -> CommandSpeaker:
        return self

    def __exit__(self, *_: Any) -> None:
        self._folder.cleanup()

    def speak(self, text: str, voice: BaseVoice, *, speed: float, seed: int) -> Sound:
        output = Path(self._folder.name) / "spoken.wav"
        output.unlink(missing_ok=True)
        values = {"text": text, "voice": voice.name, "output": str(output), "speed": f"{speed:.4f}", "seed": str(seed)}
        self._run([_filled(word, values) for word in self._words], text)
        try:
            samples, sample_rate = read_audio(output)
        except (AudioFileError, FileNotFoundError) as error:
            raise CorpusConfigError(f"expected sound of {self._words[0]} in the file given as {{output}}, found none: {error}") from error
        if len(samples) < LEAST_SECONDS * sample_rate or not np.any(samples):
            raise CorpusConfigError(
                f"expected speech of {self._words[0]} for {text!r}, found {len(samples) / sample_rate:.2f} s of silence or less than "
                f"{LEAST_SECONDS} s; try the command by hand"
            )
        return Sound(samples=samples, sample_rate=sample_rate)

    def _run(self, words: list[str], text: str) -> None:
        try:
            done = subprocess.run(words, input=text.encode(), capture_output=True, timeout=self._seconds, check=False)
        except subprocess.TimeoutExpired:
            raise CorpusConfigError(
                f"expected {words[0]} to speak within {self._seconds:g} s, found it running on; raise --command-seconds"
            ) from None
        except OSError as error:
            raise CorpusConfigError(f"expected to run {words[0]}, found that it cannot be ({error.strerror}); change --command") from error
        if done.returncode != 0:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing on its standard error"])[-1]
            raise CorpusConfigError(f"expected exit status 0 of {words[0]}, found {done.returncode} ({last}); try the command by hand")


def _filled(word: str, values: dict[str, str]) -> str:
    """A word of the command line with its placeholders replaced, once: braces in the text stay as they are."""
    parts = _PLACEHOLDER.split(word)
    return "".join(values[part] if position % 2 else part for position, part in enumerate(parts))
