"""One utterance of the recipe as a function of (settings, part, number), and its line in the index."""

from __future__ import annotations

import random
import zlib
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valle.corpora.espeak_grammar import draw_text
from valle.corpora.speech import Speech
from valle.corpora.speech_utterance import SpokenUtterance, speak_text, whose_turn
from valle.corpora.synthetic.config import SyntheticConfig
from valle.corpora.synthetic.effects import apply_voice
from valle.corpora.synthetic.synthesiser import Speaker
from valle.corpora.synthetic.voices import SyntheticVoice, make_voice


class SyntheticUtterance(SpokenUtterance[SyntheticVoice]):
    """An utterance by one of the recipe's synthesisers."""

    @staticmethod
    def parse_voice(fields: dict[str, Any]) -> SyntheticVoice:
        return SyntheticVoice.from_dict(fields)


class SyntheticSpeaker:
    """Speaks utterances of a corpus; each synthesiser is loaded when it speaks first."""

    def __init__(self, config: SyntheticConfig) -> None:
        self._config = config
        self._synthesisers = config.open_synthesisers()
        self._speakers: dict[str, Speaker] = {}
        self._stack = ExitStack()

    def __enter__(self) -> SyntheticSpeaker:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def speak_utterance(self, part: str, number: int) -> tuple[SyntheticUtterance, NDArray[np.int16]]:
        """Utterance ``number`` of ``part``, and its samples (T,) at 16 kHz."""
        voice, is_in_train = self.voice_of(part, number)

        def draw(rng: random.Random, num_sentences: int) -> str:
            return draw_text(rng, part=part, num_sentences=num_sentences)

        text, speech = speak_text(
            self._config, part=part, number=number, voice_name=voice.name, draw=draw,
            speak=lambda text, name: self.speak(text, voice, seed=name),
        )  # fmt: skip
        utterance = SyntheticUtterance.of(part, number, text=text, speech=speech, voice=voice, voice_is_in_train=is_in_train)
        return utterance, speech.samples

    def voice_of(self, part: str, number: int) -> tuple[SyntheticVoice, bool]:
        """The voice of an utterance, and whether train has it."""
        config = self._config
        index, is_in_train = whose_turn(config, part=part, number=number)
        voice = make_voice(
            index, is_held_out=not is_in_train, synthesisers=self._synthesisers, shares=config.shares, seed=config.seed
        )
        return voice, is_in_train

    def speak(self, text: str, voice: SyntheticVoice, *, seed: str) -> Speech:
        """A text as the voice says it; ``seed`` decides what is random in the sound."""
        settings = voice.settings
        sound = self._speaker(voice.synthesiser).speak(
            text, voice.base, speed=settings.speed / settings.pitch, seed=zlib.crc32(seed.encode())
        )
        heard = apply_voice(
            sound.samples,
            sound.sample_rate,
            settings,
            room_seed=f"{self._config.seed} room {voice.name}",
            noise_seed=f"{seed} noise",
        )
        return Speech(samples=np.rint(heard * 32767).astype(np.int16), words=sound.words, phones=sound.phones)

    def _speaker(self, name: str) -> Speaker:
        if name not in self._speakers:
            self._speakers[name] = self._stack.enter_context(self._synthesisers[name].open())
        return self._speakers[name]
