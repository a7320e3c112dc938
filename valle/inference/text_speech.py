"""Text and speech by one model: transcribe, speak, translate (AudioPaLM, Rubenstein et al. 2023).

A class beside ``Pipeline``, which holds one AudioLM with its codec and continues sound.  This one holds a joint-lm, whose tokenizers
are text pieces and units, and borrows any ``Pipeline`` for the one step that they share: units to sound in a prompt's voice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from valle.audio import Waveform, resample
from valle.decoding.sampling import Sampling
from valle.device import find_device
from valle.errors import UserError
from valle.given_audio import PromptError, Recording, as_rows, as_seeds
from valle.inference.pipeline import Pipeline
from valle.measures.level import speech_gain_db, with_gain
from valle.models.joint_decoding import Question, answer
from valle.models.joint_released import ReleasedJoint, load_joint
from valle.models.joint_tasks import JointTask, Kind, Sequences, Side
from valle.tokenizers.stream import encode_pieces

SAMPLING: Mapping[Kind, Sampling] = {"text": Sampling(temperature=0), "units": Sampling(temperature=0.7)}
MOST_PIECES = 200  # of an answer
LONGER = 1.25  # an output in units may last so much longer than any that was learned


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model gave for one input: its outputs in the order of the task's chain."""

    text: str = ""  # of the last output that is text, in the language asked for
    transcript: str = ""  # of what was heard, where the chain writes it down
    units: Tensor | None = None  # (T_u,) int64, where it speaks


class TextSpeech:
    """A joint-lm, ready to be asked; ``voice_model`` turns its units into sound, in the voice of a prompt.

    >>> speech = TextSpeech.from_pretrained("exp/joint-lm")  # doctest: +SKIP
    >>> speech.transcribe(*read_audio("hello.wav"), language="English")  # doctest: +SKIP
    ['Peter sometimes washes the black knife.']
    """

    def __init__(self, released: ReleasedJoint, *, voice_model: Pipeline | None = None, device: torch.device | str = "cpu") -> None:
        self.released, self.voice_model = released, voice_model
        self.device = find_device(str(device))
        self.model, self.text = released.model.eval().to(self.device), released.text
        self.semantic = released.semantic.eval().to(self.device) if released.semantic is not None else None
        self.sequences = Sequences(self.model.config, self.text)
        if voice_model is not None:
            ours = self.semantic.identity if self.semantic else None
            theirs = voice_model.semantic.identity if voice_model.semantic else None
            if ours is None or theirs is None or ours != theirs:
                raise UserError(
                    f"expected a voice model of the joint-lm's own units {ours or '(it has none)'}, found one of {theirs or 'no units'}; "
                    "train both on the tokens of one prepare.sh"
                )

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, voice_model: Pipeline | None = None, device: torch.device | str = "cpu"
    ) -> TextSpeech:
        """The joint-lm in a released folder, a trainer's folder, or a checkpoint."""
        return cls(load_joint(Path(path)), voice_model=voice_model, device=device)

    def transcribe(self, wav: Recording | Sequence[Recording], sample_rate: int, *, language: str) -> list[str]:
        """What is said in recordings of ``language``, such as English."""
        return [found.text for found in self.answer_audio("ASR", wav, sample_rate, language=language)]

    def translate(self, texts: Sequence[str], *, source: str, target: str) -> list[str]:
        """Texts of the language ``source`` in the language ``target``."""
        return [found.text for found in self.answer_text("MT", texts, source=source, target=target)]

    def translate_audio(
        self, wav: Recording | Sequence[Recording], sample_rate: int, *, source: str, target: str, task: str = "AST", seed: int = 0
    ) -> list[Answer]:
        """Recordings in another language, by ``AST`` (text), ``S2ST`` (units), or a chain such as ``ASR+AST+S2ST``."""
        return self.answer_audio(task, wav, sample_rate, language=source, target=target, seed=seed)

    def speak(
        self,
        texts: Sequence[str],
        *,
        language: str,
        voice: Recording,
        voice_sample_rate: int,
        seed: int = 0,
    ) -> list[Waveform]:
        """Texts spoken with the voice of a recording -> ``(T,)`` float32 each, at ``voice_model.sample_rate``."""
        found = self.answer_text("TTS", texts, source=language, seed=seed)
        return self.sound([answer.units for answer in found], voice=voice, voice_sample_rate=voice_sample_rate, seed=seed)

    def sound(self, units: Sequence[Tensor | None], *, voice: Recording, voice_sample_rate: int, seed: int = 0) -> list[Waveform]:
        """Units ``(T_u,)`` in the voice of a recording."""
        if self.voice_model is None:
            raise UserError("expected a voice model, which turns units into sound, found none; name an AudioLM of the same units")
        [row] = as_rows(voice)
        silent = np.zeros(0, np.float32)
        return [
            silent if part is None or not len(part) else self.voice_model.speak_units(part, row, voice_sample_rate, seed=seed + number)
            for number, part in enumerate(units)
        ]

    def answer_text(self, task: str, texts: Sequence[str], *, source: str, target: str | None = None, seed: int = 0) -> list[Answer]:
        """Any task or chain that reads text; text is the likeliest, units are drawn."""
        asked = self._asked(task, "text")
        sides = [Side(source, pieces=self.text.encode(text)) for text in texts]
        if any(not side.pieces for side in sides):
            raise UserError("expected a text, found an empty one; give words")
        return self._answers(asked, sides, target, seed)

    def answer_audio(
        self,
        task: str,
        wav: Recording | Sequence[Recording],
        sample_rate: int,
        *,
        language: str,
        target: str | None = None,
        seed: int = 0,
    ) -> list[Answer]:
        """Any task or chain that hears."""
        asked = self._asked(task, "units")
        sides = [Side(language, units=self._units(row, sample_rate).tolist()) for row in as_rows(wav)]
        return self._answers(asked, sides, target, seed)

    def _asked(self, task: str, takes: str) -> JointTask:
        asked = JointTask.parse(task)
        if asked.name not in self.released.tasks:
            raise UserError(
                f"this model has learned {', '.join(self.released.tasks)}, not {asked.name}; train it with --tasks {asked.name}"
            )
        if asked.takes != takes:
            raise UserError(f"expected a task that takes {takes}, found {asked.name}")
        return asked

    def _answers(self, task: JointTask, sides: Sequence[Side], target: str | None, seed: int) -> list[Answer]:
        most = MOST_PIECES * task.gives.count("text") + self._most_units() * task.gives.count("units")
        questions = [
            Question(prompt=self.sequences.prompt(task, side, target), gives=task.gives, max_new=most, seed=row_seed)
            for side, row_seed in zip(sides, as_seeds(seed, len(sides)), strict=True)
        ]
        return [self._read(task, outputs) for outputs in answer(self.model, questions, SAMPLING)]

    def _read(self, task: JointTask, outputs: list[list[int]]) -> Answer:
        found = Answer()
        for step, kind, tokens in zip(task.steps, task.gives, outputs, strict=True):
            if kind == "units":
                found = replace(found, units=torch.tensor(tokens, dtype=torch.int64))
            else:
                text = self.text.decode([token for token in tokens if token < self.text.num_pieces]).strip()
                found = replace(found, text=text, transcript=text if step == "ASR" else found.transcript)
        return found

    def _most_units(self) -> int:
        if self.semantic is None:
            return 0
        return round(LONGER * self.released.longest_seconds * float(self.semantic.identity.grid.rate))

    def _units(self, wav: Waveform, sample_rate: int) -> Tensor:
        """Units of a recording, heard at the level of the speech that was learned from."""
        assert self.semantic is not None  # a task that hears has been learned
        seconds, most = len(wav) / sample_rate, LONGER * self.released.longest_seconds
        if not 0.1 <= seconds <= most:
            raise PromptError(
                f"expected a recording of 0.1 to {most:.1f} s, as long as the model has heard in training, found {seconds:.1f} s; cut it"
            )
        heard = with_gain(wav, speech_gain_db(wav, sample_rate))
        return encode_pieces(self.semantic, [resample(heard, sample_rate, self.semantic.sample_rate)])
