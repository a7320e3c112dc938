"""Kokoro-82M by onnxruntime, from a folder of the user's; phonemes by hibari's rules, which are Kokoro's own.

The folder holds one ``*.onnx`` file with the inputs ``tokens`` or ``input_ids`` (1, L), ``style`` (1, 256) and ``speed`` (1,), and
``voices/NAME.bin``, float32 (lengths, 256) each: the files of the hub's ``onnx-community/Kokoro-82M-v1.0-ONNX`` (Apache-2.0).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valle.corpora.speech_config import CorpusConfigError
from valle.corpora.synthetic.hibari import VOICE
from valle.corpora.synthetic.synthesiser import BaseVoice, Sound, share_out

SAMPLE_RATE = 24_000  # Hz
STYLE_SIZE = 256
ENGLISH = {"af": False, "am": False, "bf": True, "bm": True}  # the first letters of a voice's name; is it British?


@dataclass(frozen=True)
class KokoroSynthesiser:
    """Kokoro-82M of a folder, with the English ones of its voices."""

    folder: Path | None
    name: str = "kokoro"
    has_speed: bool = True
    is_multiplied: bool = True

    def __post_init__(self) -> None:
        for module, package in (("onnxruntime", "onnxruntime"), ("hibari", "hibari-tts")):
            if find_spec(module) is None:
                raise CorpusConfigError(
                    f"the synthesiser kokoro needs the package {package}, which is not installed; run pip install -e .[synthetic]"
                )
        if self.folder is None or len(list(self.folder.glob("*.onnx"))) != 1 or not self.voice_names:
            raise CorpusConfigError(
                f"expected a folder with one .onnx file and voices/af_heart.bin or the like for --kokoro-dir, found "
                f"{self.folder or 'none'}; put the files of onnx-community/Kokoro-82M-v1.0-ONNX there"
            )

    @property
    def files(self) -> list[Path]:
        assert self.folder is not None
        return [*self.folder.glob("*.onnx"), *(path for path in sorted(self.folder.glob("voices/*.bin")) if path.name[:2] in ENGLISH)]

    @property
    def voice_names(self) -> list[str]:
        return [path.stem for path in self.files if path.suffix == ".bin"]

    def base_voice(self, index: int, *, is_held_out: bool, seed: int) -> BaseVoice:
        names = share_out(self.voice_names, is_held_out=is_held_out)
        name = names[index % len(names)]
        return BaseVoice(name=name, is_female=name[1] == "f")

    def fingerprint(self) -> dict[str, Any]:
        return {path.name: hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() for path in self.files}

    def open(self) -> KokoroSpeaker:
        assert self.folder is not None
        return KokoroSpeaker(self.folder)


class KokoroSpeaker:
    """The model and both pronunciations, loaded."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        from hibari import Hibari
        from hibari.g2p import G2P
        from hibari.voices import voice_path

        self._folder = folder
        model = voice_path(VOICE, download_missing=False)
        self._readers = {is_british: Hibari(voice=VOICE, model=model, g2p=G2P(british=is_british)) for is_british in (False, True)}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        (path,) = folder.glob("*.onnx")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in self._session.get_inputs()]
        if not {"style", "speed"} <= set(names) or not {"tokens", "input_ids"} & set(names):
            raise CorpusConfigError(
                f"expected the inputs tokens or input_ids, style and speed of {path}, found {', '.join(names)}; give a Kokoro-82M as ONNX"
            )
        self._tokens_name = "tokens" if "tokens" in names else "input_ids"
        self._styles: dict[str, NDArray[np.float32]] = {}

    def __enter__(self) -> KokoroSpeaker:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def speak(self, text: str, voice: BaseVoice, *, speed: float, seed: int) -> Sound:
        reader, styles = self._readers[ENGLISH[voice.name[:2]]], self._load_styles(voice.name)
        pieces = [self._speak_sentence(reader.ids(phonemes), styles, speed) for phonemes in reader.phonemize(text)]
        return Sound(samples=np.concatenate(pieces), sample_rate=SAMPLE_RATE)

    def _speak_sentence(self, ids: list[int], styles: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
        """One sentence of phoneme ids, 0 at both ends; a voice has one style for each number of phonemes."""
        style = styles[min(len(ids) - 2, len(styles) - 1)]
        inputs = {
            self._tokens_name: np.array([ids], dtype=np.int64),
            "style": style[None],
            "speed": np.array([speed], dtype=np.float32),
        }
        return np.asarray(self._session.run(None, inputs)[0], dtype=np.float32).reshape(-1)

    def _load_styles(self, name: str) -> NDArray[np.float32]:
        if name not in self._styles:
            path = self._folder / "voices" / f"{name}.bin"
            values = np.fromfile(path, dtype="<f4")
            if not len(values) or len(values) % STYLE_SIZE:
                raise CorpusConfigError(f"expected rows of {STYLE_SIZE} float32 in the voice {path}, found {len(values)}; copy it again")
            self._styles[name] = values.reshape(-1, STYLE_SIZE)
        return self._styles[name]
