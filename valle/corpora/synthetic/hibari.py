"""hibari-tts: one natural English voice, a small ONNX model that lies in the package's wheel (Apache-2.0)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from valle.corpora.speech_config import CorpusConfigError
from valle.corpora.synthetic.synthesiser import BaseVoice, Sound

VOICE = "heart"  # the one voice in the wheel; others would be downloaded, which this program never does


@dataclass(frozen=True)
class HibariSynthesiser:
    """hibari with its own voice alone."""

    name: str = "hibari"
    has_speed: bool = True
    is_multiplied: bool = True

    def __post_init__(self) -> None:
        if find_spec("hibari") is None:
            raise CorpusConfigError(
                "the synthesiser hibari needs the package hibari-tts, which is not installed; run pip install -e .[synthetic]"
            )

    def base_voice(self, index: int, *, is_held_out: bool, seed: int) -> BaseVoice:
        return BaseVoice(name=VOICE, is_female=True)

    def fingerprint(self) -> dict[str, Any]:
        return {"hibari-tts": version("hibari-tts"), "onnxruntime": version("onnxruntime")}

    def open(self) -> HibariSpeaker:
        return HibariSpeaker()


class HibariSpeaker:
    """The model and its pronunciation, loaded."""

    def __init__(self) -> None:
        from hibari import Hibari
        from hibari.voices import voice_path

        self._hibari = Hibari(voice=VOICE, model=voice_path(VOICE, download_missing=False))

    def __enter__(self) -> HibariSpeaker:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def speak(self, text: str, voice: BaseVoice, *, speed: float, seed: int) -> Sound:
        samples = np.asarray(self._hibari(text, speed=speed, seed=seed), dtype=np.float32)
        return Sound(samples=samples, sample_rate=self._hibari.sample_rate)
