"""Settings of the embedded corpus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from valle.corpora.espeak_grammar import grammar_version
from valle.corpora.speech_config import CorpusConfigError, CorpusDirectoryError, SpeechConfig

GENERATOR_VERSION = 1  # raise it with every change of the code that changes the audio, the texts or the index

EspeakConfigError = CorpusConfigError
EspeakDirectoryError = CorpusDirectoryError


@dataclass(frozen=True, kw_only=True)
class EspeakConfig(SpeechConfig):
    """What to synthesise with eSpeak NG."""

    def fingerprint(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "generator_version": GENERATOR_VERSION,
            "grammar": grammar_version(),
            "espeakng_loader": version("espeakng-loader"),
        }
