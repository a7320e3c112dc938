"""syn-WUGGY: words and non-words of the same phonemes.

Two words of equal length and stress exchange their ends: "pil-low" and "car-pet" give "pil-pet" and "car-low".  So both sides of the two
pairs are made of the same beginnings and the same ends, and only how these go together tells a word.  After Wuggy (Keuleers and
Brysbaert 2010) and sWUGGY (Nguyen et al. 2020).

Words meet only where vowels and consonants stand in the same places around the joint, where each joint of phonemes occurs in some word,
and where the non-words are no words that are known here.  Of those, as many are taken that a trigram of phonemes, fitted on the other
words, gets right as it gets wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from valle.corpora.espeak_discourse import one_of
from valle.corpora.espeak_grammar import RULES, lexicon
from valle.corpora.espeak_synthesiser import EspeakSynthesiser
from valle.corpora.espeak_voices import Voice
from valle.corpora.espeak_withheld import WITHHELD
from valle.evaluation.language.items import LanguageItemsError
from valle.evaluation.language.spoken import Quadruple, Said
from valle.measures.ngrams import Trigram

Phonemes = tuple[str, ...]
CLASSES = ("ITEM", "PLACE", "ROLE", "QUALITY", "SAW")
LEAST_PHONEMES = 4  # of words that exchange ends
_VOWEL = re.compile(r"[',]?[aeiouAEIOUV03@]")
CARRIERS: Mapping[str, tuple[str, str]] = {
    "ITEM": ("{name} {saw} the ", " {near} the {place}."), "PLACE": ("{name} {saw} the {item} {near} the ", "."),
    "ROLE": ("The ", " {saw} the {item} {near} the {place}."), "QUALITY": ("{name} {saw} the ", " {item} {near} the {place}."),
    "SAW": ("{name} ", " the {item} {near} the {place}."),
}  # fmt: skip
GROUPS = ("in_vocabulary_alone", "in_vocabulary_carrier", "withheld_alone", "withheld_carrier")


@dataclass(frozen=True)
class Exchange:
    """Two words of a class, and the non-words that their ends make: ``nonwords[0]`` begins as ``words[0]`` does.

    ``nats`` are those of the four under a trigram of phonemes that knows neither word.
    """

    of_class: str
    words: tuple[Phonemes, Phonemes]
    nonwords: tuple[Phonemes, Phonemes]
    nats: tuple[float, float, float, float]

    @property
    def lean(self) -> int:
        """Pairs that the trigram gets right, less those that it gets wrong: -2 to 2."""
        differences = [self.nats[place + 2] - self.nats[place] for place in (0, 1)]
        return sum((difference > 1e-9) - (difference < -1e-9) for difference in differences)


class Nonwords:
    """All exchanges in the accent of a voice, in an order drawn from ``seed``."""

    def __init__(
        self, synthesiser: EspeakSynthesiser, voice: Voice, *, withheld: bool, seed: int, unsaid: Set[str] = frozenset()
    ) -> None:
        """``withheld``: of words that training never said, which are ``unsaid`` of the grammar or, without any, English ones beyond it."""
        said = {name: [word for word in RULES[name] if word not in unsaid] for name in CLASSES}
        others = {name: [word for word in RULES[name] if word in unsaid] for name in CLASSES} if unsaid else WITHHELD
        self._heard = set(synthesiser.spell(sorted(lexicon() - unsaid), voice))
        spelled = {name: synthesiser.spell(others[name], voice) for name in CLASSES}
        new = {name: [word for word in words if word not in self._heard] for name, words in spelled.items()}
        chosen = new if withheld else {name: synthesiser.spell(said[name], voice) for name in CLASSES}
        everything = self._heard.union(*new.values())
        joints = {joint for word in everything for joint in pairwise(word)}
        rng = random.Random(f"{seed} exchanges {withheld}")
        found = [
            (name, one, other, ends)
            for name, words in chosen.items() for one, other in _partners(sorted(set(words)))
            for ends in _exchanged(one, other) if not everything & set(ends) and all(set(pairwise(end)) <= joints for end in ends)
        ]  # fmt: skip
        self._found = sorted(found, key=lambda _: rng.random())
        self._left, self._taken = self.balanced(), list[Exchange]()

    def take(self, number: int) -> Exchange:
        """Exchange ``number`` of the balanced ones, over and over; raises ``LanguageItemsError`` where the accent has none."""
        while len(self._taken) <= number and (following := next(self._left, None)) is not None:
            self._taken.append(following)
        if not self._taken:
            raise LanguageItemsError("expected words that exchange their ends, found none in this accent; name other voices")
        return self._taken[number % len(self._taken)]

    def balanced(self) -> Iterator[Exchange]:
        """Exchanges of which a trigram of phonemes gets, at any time, as many pairs right as wrong, to within one exchange."""
        balance, waiting = 0, {1: list[Exchange](), -1: list[Exchange]()}
        for name, one, other, ends in self._found:
            trigram = Trigram(self._heard - {one, other})
            nats = tuple(trigram.nats(phonemes) for phonemes in (one, other, *ends))
            exchange = Exchange(name, (one, other), ends, (nats[0], nats[1], nats[2], nats[3]))
            side = (exchange.lean > 0) - (exchange.lean < 0)
            if side and (balance + exchange.lean) * side > 1:
                waiting[side].append(exchange)
                continue
            balance += exchange.lean
            yield exchange
            while balance and (queue := waiting[-1 if balance > 0 else 1]):
                balance += queue[0].lean
                yield queue.pop(0)


def wuggy_quadruple(rng: random.Random, group: str, voice: Voice, exchange: Exchange) -> Quadruple:
    """Alone or in a carrier sentence, which all four share."""
    before, after = ("", "") if group.endswith("alone") else _carrier(rng, exchange.of_class)
    four = zip((*exchange.words, *exchange.nonwords), exchange.nats, strict=True)
    said = [_said(before, phonemes, after, nats) for phonemes, nats in four]
    return Quadruple(suite="wuggy", group=group, voice=voice, pairs=((said[0], said[2]), (said[1], said[3])))


def _said(before: str, phonemes: Phonemes, after: str, nats: float) -> Said:
    text = f"{before}[[{'|'.join(phonemes)}]]{after}"
    return Said(text=text, symbols=phonemes, place=len(before) or None, phonemes=True, trigram_nats=nats)


def _carrier(rng: random.Random, of_class: str) -> tuple[str, str]:
    words = {name: one_of(rng, RULES[name.upper()]) for name in ("name", "saw", "near", "place", "item")}
    before, after = (part.format(**words) for part in CARRIERS[of_class])
    return before, after


def _partners(words: Sequence[Phonemes]) -> Iterator[tuple[Phonemes, Phonemes]]:
    """Pairs of words of one length and stress."""
    shapes: dict[object, list[Phonemes]] = {}
    for word in words:
        if len(word) >= LEAST_PHONEMES:
            shapes.setdefault(tuple(phoneme[0] if phoneme[0] in "'," else "" for phoneme in word), []).append(word)
    for shaped in shapes.values():
        for position, one in enumerate(shaped):
            for other in shaped[position + 1 :]:
                yield one, other


def _exchanged(one: Phonemes, other: Phonemes) -> Iterator[tuple[Phonemes, Phonemes]]:
    """The non-words of every place at which the two may be cut: both halves differ, and the joint has vowels in the same places."""
    for cut in range(2, len(one) - 1):
        differ = one[:cut] != other[:cut] and one[cut:] != other[cut:]
        if differ and all(_is_vowel(one[place]) == _is_vowel(other[place]) for place in (cut - 1, cut)):
            yield one[:cut] + other[cut:], other[:cut] + one[cut:]


def _is_vowel(phoneme: str) -> bool:
    return _VOWEL.match(phoneme) is not None
