"""Settings of the embedded corpus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal, get_args

from valle.corpora.espeak_grammar import grammar_version
from valle.corpora.speech_config import CorpusConfigError, CorpusDirectoryError, SpeechConfig

Texts = Literal["sentences", "discourse", "mixed"]
LONGEST_STORY_SECONDS = 10.0
GENERATOR_VERSION = 1  # raise it with every change of the code that changes the audio, the texts or the index

EspeakConfigError = CorpusConfigError
EspeakDirectoryError = CorpusDirectoryError


@dataclass(frozen=True, kw_only=True)
class EspeakConfig(SpeechConfig):
    """What to synthesise with eSpeak NG.

    ``texts`` are unrelated sentences, stories whose sentences share a person, a thing, a place and days, or one and the other in
    turns.  ``withheld_words`` of the things, places, roles, qualities and verbs are never said in train and dev.
    """

    texts: Texts = "sentences"
    withheld_words: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.texts not in get_args(Texts):
            raise EspeakConfigError(f"--texts must be one of {', '.join(get_args(Texts))}, found {self.texts!r}; choose one of them")
        if self.texts != "sentences" and self.max_seconds < LONGEST_STORY_SECONDS:
            raise EspeakConfigError(
                f"expected --max-seconds {LONGEST_STORY_SECONDS:g} or more for stories, found {self.max_seconds:g}; raise it, or choose "
                "--texts sentences"
            )
        if not 0 <= self.withheld_words <= 0.5:
            raise EspeakConfigError(f"--withheld-words must be a share from 0 to 0.5, found {self.withheld_words:g}; lower it")

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the corpus's bytes; a change of any entry regenerates it.

        Settings that came later are left out at their defaults, so that an earlier corpus stays what it is.
        """
        later = {"texts": "sentences", "withheld_words": 0.0}
        return {
            **{name: value for name, value in asdict(self).items() if name not in later or value != later[name]},
            "generator_version": GENERATOR_VERSION,
            "grammar": grammar_version(),
            "espeakng_loader": version("espeakng-loader"),
        }
