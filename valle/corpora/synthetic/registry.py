"""Synthesisers by name, and how a corpus's voices are shared among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from valle.corpora.speech_config import CorpusConfigError
from valle.corpora.synthetic.command import CommandSynthesiser
from valle.corpora.synthetic.espeak import Espeak
from valle.corpora.synthetic.hibari import HibariSynthesiser
from valle.corpora.synthetic.kokoro import KokoroSynthesiser
from valle.corpora.synthetic.synthesiser import Synthesiser, SynthesiserOptions

SYNTHESISERS: Mapping[str, Callable[[SynthesiserOptions], Synthesiser]] = MappingProxyType({
    "espeak": lambda options: Espeak(),
    "hibari": lambda options: HibariSynthesiser(),
    "kokoro": lambda options: KokoroSynthesiser(options.kokoro_dir),
    "command": lambda options: CommandSynthesiser(options.command, voices=options.command_voices, seconds=options.command_seconds),
})  # fmt: skip


def parse_shares(text: str) -> dict[str, float]:
    """Shares of the voices, which sum to 1, of ``"espeak,hibari"`` (equal) or ``"espeak=1,hibari=3"``."""
    weights: dict[str, float] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = entry.partition("=")
        weights[name] = _weight(number or "1", entry)
    if unknown := sorted(weights.keys() - SYNTHESISERS.keys()):
        raise CorpusConfigError(f"expected synthesisers among {', '.join(SYNTHESISERS)}, found {unknown[0]!r}; change --synthesisers")
    if not weights:
        raise CorpusConfigError(f"expected at least one synthesiser, found none; give --synthesisers, of {', '.join(SYNTHESISERS)}")
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _weight(text: str, entry: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise CorpusConfigError(f"expected a share above 0, found {entry!r}; write --synthesisers espeak=1,hibari=3")
    return weight


def take_turns(shares: Mapping[str, float], index: int) -> tuple[str, int]:
    """Whose voice number ``index`` is, and its number among that synthesiser's: each has its share of every beginning."""
    counts = dict.fromkeys(shares, 0)
    for number in range(index + 1):
        name = max(shares, key=lambda name: shares[name] * (number + 1) - counts[name])
        counts[name] += 1
    return name, counts[name] - 1
