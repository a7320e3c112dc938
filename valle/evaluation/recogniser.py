"""A public recogniser as a judge: Whisper (Radford et al. 2022) by faster-whisper, from files that the user has.

A recogniser hears words in noise too, since its language model fills in.  So every result says how far it can be trusted, by
the thresholds of Whisper's own decoder (section 4.5) and by a look for loops, and nothing is left out without being counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from valle.audio import Waveform, resample
from valle.errors import UserError
from valle.measures.words import repeats, words_of_speech

RATE = 16000  # Hz, Whisper's
FILES = ("model.bin", "config.json", "tokenizer.json")  # and vocabulary.txt or vocabulary.json
VOCABULARIES = ("vocabulary.txt", "vocabulary.json")
LEAST_LOG_PROBABILITY, MOST_COMPRESSION, MOST_NO_SPEECH = -1.0, 2.4, 0.6  # Whisper's own thresholds


class RecogniserError(UserError):
    """A recogniser that is not installed, or whose files are not there."""


@dataclass(frozen=True)
class Segment:
    """What was heard in one window of at most 30 s, and how sure the recogniser is."""

    text: str
    log_probability: float  # mean of its tokens
    compression: float  # by how much gzip shortens the text; loops are short
    no_speech: float  # probability that nobody speaks

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why these words may not have been said; none for a text to trust."""
        found = {
            "unsure": self.log_probability < LEAST_LOG_PROBABILITY,
            "compressible": self.compression > MOST_COMPRESSION,
            "no speech": self.no_speech > MOST_NO_SPEECH,
            "repetition": repeats(words_of_speech(self.text)),
        }
        return tuple(name for name, holds in found.items() if holds)


@dataclass(frozen=True)
class Heard:
    """All segments of a clip."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """Everything, whether to be trusted or not."""
        return " ".join(segment.text.strip() for segment in self.segments)

    @property
    def words(self) -> list[str]:
        """Words of the segments that raise no doubts."""
        return [word for segment in self.segments if not segment.doubts for word in words_of_speech(segment.text)]

    @property
    def all_words(self) -> list[str]:
        """Words of all segments, what the recogniser made up too."""
        return words_of_speech(self.text)

    @property
    def doubts(self) -> tuple[str, ...]:
        return tuple(sorted({doubt for segment in self.segments for doubt in segment.doubts}))


class Recogniser(Protocol):
    """Anything that writes down what it hears."""

    name: str
    language: str

    def hear(self, wav: Waveform, sample_rate: int) -> Heard: ...


class WhisperRecogniser:
    """Greedy decoding in a given language, every clip alone, no clip's text given to the next one.

    >>> judge = whisper_recogniser("whisper-base", language="en")  # doctest: +SKIP
    >>> judge.hear(wav, 16000).words  # doctest: +SKIP
    """

    def __init__(self, model: Any, *, name: str, language: str = "en") -> None:
        """``model``: a ``faster_whisper.WhisperModel``."""
        self.model, self.name, self.language = model, name, language

    def hear(self, wav: Waveform, sample_rate: int) -> Heard:
        """``wav (T,)`` at ``sample_rate`` Hz; silence and empty clips are heard as nothing without asking the model."""
        if not wav.any():
            return Heard(())
        segments, _ = self.model.transcribe(
            resample(wav, sample_rate, RATE), language=self.language, task="transcribe", beam_size=1, best_of=1, temperature=0.0,
            condition_on_previous_text=False, without_timestamps=True, vad_filter=False,
            # The model's own rules would drop segments without a word; here they are kept and doubted.
            compression_ratio_threshold=None, log_prob_threshold=None, no_speech_threshold=None,
        )  # fmt: skip
        return Heard(tuple(_plain(segments)))


def whisper_recogniser(name: str, *, language: str = "en") -> WhisperRecogniser:
    """Whisper of the folder ``name``, or of that name (``base``, ``org/model``) in the hub's cache; nothing is downloaded.

    Raises ``RecogniserError`` where the package or the files are missing, with what to put where.
    """
    if find_spec("faster_whisper") is None:
        raise RecogniserError("the recogniser needs the package faster-whisper, which is not installed; pip install faster-whisper")
    from faster_whisper import WhisperModel  # a second to import

    folder = Path(name) if Path(name).is_dir() else _cached(name)
    missing = [file for file in FILES if not (folder / file).is_file()]
    if not any((folder / file).is_file() for file in VOCABULARIES):
        missing.append(" or ".join(VOCABULARIES))
    if missing:
        raise RecogniserError(
            f"expected a Whisper model for CTranslate2 in {folder}, found no {', '.join(missing)}; {_where_to_get('base')}"
        )
    try:
        model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads(), local_files_only=True)
    except (RuntimeError, ValueError, OSError) as error:
        raise RecogniserError(f"the Whisper model in {folder} cannot be read ({error}); copy it again") from error
    return WhisperRecogniser(model, name=folder.name, language=language)


def _cached(name: str) -> Path:
    """A model that the user downloaded before, by its name."""
    from faster_whisper.utils import download_model

    try:
        return Path(download_model(name, local_files_only=True))
    except Exception as error:  # the hub's many ways to say that there is none
        raise RecogniserError(f"expected a folder or a model in the hub's cache for --whisper {name}; {_where_to_get(name)}") from error


def _where_to_get(name: str) -> str:
    hub = name if "/" in name else f"Systran/faster-whisper-{name}"
    files = f"{', '.join(FILES)} and {VOCABULARIES[0]}"
    return f"put {files} (of {hub} on huggingface.co, MIT licence) into a folder and give that as --whisper FOLDER"


def _plain(segments: Iterable[Any]) -> Iterable[Segment]:
    for segment in segments:
        yield Segment(
            text=segment.text, log_probability=float(segment.avg_logprob), compression=float(segment.compression_ratio),
            no_speech=float(segment.no_speech_prob),
        )  # fmt: skip
