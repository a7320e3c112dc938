"""A conversation that goes on: each turn's sound from its text and from what was said before it, by whom (CSM, Sesame 2025).

A class beside ``Pipeline``, which holds one AudioLM and continues sound.  This one holds text pieces and a codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from valle.audio import Waveform, resample
from valle.decoding.sampling import Sampling
from valle.device import find_device
from valle.errors import UserError
from valle.given_audio import PromptError, Recording, as_rows
from valle.inference.continuation import ContinueSettings
from valle.measures.level import speech_gain_db, with_gain
from valle.models.conversation_decoding import NextTurn, next_turns
from valle.models.conversation_released import ReleasedConversation, load_conversation
from valle.models.conversation_turns import SpokenTurn, TurnSequences
from valle.tokenizers.stream import decode_pieces, encode_pieces

SAMPLING = Sampling(temperature=0.8, repetition_window=10)
LONGER = 1.25  # a turn may last so much longer than any that was learned
LEAST_SECONDS = 0.2  # of a turn


@dataclass(frozen=True, kw_only=True)
class Line:
    """What ``speaker`` says; ``wav`` is its recording, or None where its sound is to be made."""

    speaker: str
    text: str
    wav: Recording | None = None
    sample_rate: int = 0


class Conversation:
    """A conversation model, ready to take part.

    >>> talk = Conversation.from_pretrained("exp/conversation")  # doctest: +SKIP
    >>> wav, sample_rate = read_audio("anna.wav")  # doctest: +SKIP
    >>> asked = Line(speaker="Anna", text="Where did you find the red hammer?", wav=wav, sample_rate=sample_rate)  # doctest: +SKIP
    >>> answer = talk.next_turn([asked], speaker="Peter", text="I found the hammer behind the castle.")  # doctest: +SKIP
    """

    def __init__(self, released: ReleasedConversation, *, device: torch.device | str = "cpu") -> None:
        self.released, self.device = released, find_device(str(device))
        self.model, self.acoustic = released.model.eval().to(self.device), released.acoustic.eval().to(self.device)
        self.sequences = TurnSequences(self.model.config, released.text)
        self.frame_seconds = float(self.acoustic.identity.grid.step)

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: torch.device | str = "cpu") -> Conversation:
        """The conversation model in a released folder, a trainer's folder, or a checkpoint."""
        return cls(load_conversation(Path(path)), device=device)

    @property
    def sample_rate(self) -> int:
        """Of what comes out, Hz."""
        return self.acoustic.sample_rate

    def next_turn(
        self, earlier: Sequence[Line], *, speaker: str, text: str, seed: int = 0, sampling: Sampling = SAMPLING, watermark: bool = True
    ) -> Waveform:
        """The sound ``(T,)`` of what ``speaker`` says after the ``earlier`` turns, of which all have recordings.

        Any of them may be prompts of voices: a speaker who was heard keeps the voice, another one gets some voice of those learned.
        """
        if any(line.wav is None for line in earlier):
            raise UserError("expected a recording of every earlier turn, found one without; make its sound first")
        return self.perform([*earlier, Line(speaker=speaker, text=text)], seed=seed, sampling=sampling, watermark=watermark)[-1]

    def perform(
        self, lines: Sequence[Line], *, seed: int = 0, sampling: Sampling = SAMPLING, watermark: bool = True
    ) -> list[Waveform]:
        """The sound of every line without a recording, in order; each is made of all lines before it, recorded or made.

        What is made carries a watermark unless ``watermark`` is False.
        """
        heard: list[SpokenTurn] = []
        made: list[Waveform] = []
        for number, line in enumerate(lines):
            if not line.text.strip() or not line.speaker.strip():
                raise UserError(f"expected a speaker and a text in every turn, found {line.speaker!r}, {line.text!r} in turn {number + 1}")
            if line.wav is not None:
                codes = self._codes(line)
            else:
                codes = self._next_codes(heard, line, seed + number, sampling)
                marking = ContinueSettings(watermark=watermark).marking(self.sample_rate)
                made.append(marking.next(self._decode(codes)))
            heard.append(SpokenTurn(line.speaker, line.text, codes.cpu().numpy()))
        return made

    def round_trip(self, line: Line) -> Waveform:
        """A recorded line through the codec, as the model hears it: the best that its own turns can sound."""
        return self._decode(self._codes(line))

    def _next_codes(self, heard: Sequence[SpokenTurn], line: Line, seed: int, sampling: Sampling) -> Tensor:
        """Codes ``(T, Q)`` of a turn."""
        silent = np.zeros((0, self.model.config.num_levels), np.int64)
        turns = [*self._in_sight(heard, line.speaker), SpokenTurn(line.speaker, line.text, silent)]
        most = round(LONGER * self.released.longest_seconds / self.frame_seconds)
        asked = NextTurn(self.sequences.prompt(turns), max_frames=most, min_frames=round(LEAST_SECONDS / self.frame_seconds), seed=seed)
        [codes] = next_turns(self.model, [asked], sampling)
        return codes

    def _in_sight(self, heard: Sequence[SpokenTurn], speaker: str) -> list[SpokenTurn]:
        """The turns that the model is shown: the speaker's last one, then the latest ones that fit into what was trained."""
        most, own = self.released.context_seconds / self.frame_seconds, [turn for turn in heard if turn.speaker == speaker][-1:]
        chosen, frames = list(own), sum(len(turn.codes) for turn in own)
        for turn in reversed(heard):
            if all(turn is not one for one in chosen):
                frames += len(turn.codes)
                if frames > most:
                    break
                chosen.append(turn)
        return [turn for turn in heard if any(turn is one for one in chosen)]

    def _codes(self, line: Line) -> Tensor:
        """Codes ``(T, Q)`` of a recording, heard at the level of the speech that was learned from."""
        assert line.wav is not None
        [wav] = as_rows(line.wav)
        if line.sample_rate <= 0:
            raise PromptError(f"expected a sample rate above 0 Hz for {line.speaker}'s recording, found {line.sample_rate}")
        seconds, most = len(wav) / line.sample_rate, self.released.context_seconds
        if not LEAST_SECONDS <= seconds <= most:
            raise PromptError(
                f"expected recordings of {LEAST_SECONDS:g} to {most:g} s, as much as the model looks back, found {seconds:.1f} s; cut it"
            )
        heard = with_gain(wav, speech_gain_db(wav, line.sample_rate))
        return encode_pieces(self.acoustic, [resample(heard, line.sample_rate, self.sample_rate)])[:, : self.model.config.num_levels]

    def _decode(self, codes: Tensor) -> Waveform:
        """Sound of ``codes (T, Q)``, within full scale."""
        if len(codes) == 0:
            return np.zeros(0, np.float32)
        with torch.inference_mode():
            pieces = [piece.float().clamp(-1, 1).cpu().numpy() for piece in decode_pieces(self.acoustic, codes)]
        sound: Waveform = np.concatenate(pieces)
        return sound
