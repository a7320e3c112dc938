"""eSpeak NG behind the recipe's interface, with the voices of the embedded corpus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from valle.corpora.espeak_synthesiser import EspeakSynthesiser
from valle.corpora.espeak_voices import Voice, held_out_voice, training_voice
from valle.corpora.speech import SAMPLE_RATE
from valle.corpora.synthetic.synthesiser import BaseVoice, Sound


@dataclass(frozen=True)
class Espeak:
    """eSpeak NG, which has voices of its own in plenty and knows when it says each word and phone."""

    name: str = "espeak"
    has_speed: bool = False
    is_multiplied: bool = False

    def base_voice(self, index: int, *, is_held_out: bool, seed: int) -> BaseVoice:
        voice = held_out_voice(index, seed=seed) if is_held_out else training_voice(index, seed=seed)
        return BaseVoice(name=voice.espeak_name, is_female=voice.is_female, settings=asdict(voice))

    def fingerprint(self) -> dict[str, Any]:
        return {"espeakng-loader": version("espeakng-loader")}

    def open(self) -> EspeakSpeaker:
        return EspeakSpeaker()


class EspeakSpeaker:
    """A helper process that speaks."""

    def __init__(self) -> None:
        self._synthesiser = EspeakSynthesiser()

    def __enter__(self) -> EspeakSpeaker:
        return self

    def __exit__(self, *_: Any) -> None:
        self._synthesiser.close()

    def speak(self, text: str, voice: BaseVoice, *, speed: float, seed: int) -> Sound:
        speech = self._synthesiser.speak(text, Voice(**voice.settings))
        samples = speech.samples.astype(np.float32) / np.float32(32768)
        return Sound(samples=samples, sample_rate=SAMPLE_RATE, words=speech.words, phones=speech.phones)
