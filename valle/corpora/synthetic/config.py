"""Settings of the recipe ``egs/synthetic``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any

from valle.corpora.espeak_grammar import grammar_version
from valle.corpora.speech_config import SpeechConfig
from valle.corpora.synthetic.registry import SYNTHESISERS, parse_shares
from valle.corpora.synthetic.synthesiser import Synthesiser, SynthesiserOptions

GENERATOR_VERSION = 1  # raise it with every change of the code that changes the audio, the texts or the index


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig(SynthesiserOptions, SpeechConfig):
    """What to synthesise, and with what."""

    num_voices: int = 80
    synthesisers: str = field(default="hibari", metadata={"help": "who speaks, with shares of the voices: espeak=1,hibari=3"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.open_synthesisers()

    @property
    def shares(self) -> dict[str, float]:
        return parse_shares(self.synthesisers)

    def open_synthesisers(self) -> dict[str, Synthesiser]:
        """The synthesisers by name; raises where one is not usable here."""
        return {name: SYNTHESISERS[name](self) for name in self.shares}

    def fingerprint(self) -> dict[str, Any]:
        asked = {entry.name for entry in fields(SynthesiserOptions)}  # the synthesisers' own fingerprints have what matters of these
        return {
            **{name: value for name, value in asdict(self).items() if name not in asked},
            "synthesisers": self.shares,
            "generator_version": GENERATOR_VERSION,
            "grammar": grammar_version(),
            "versions": {name: synthesiser.fingerprint() for name, synthesiser in self.open_synthesisers().items()},
            "soxr": version("soxr"),
        }
