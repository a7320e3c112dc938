"""What a sentence of the parallel corpus says, before it is said in any language: a rule and the concepts in its places.

Concepts are English words, the keys of every lexicon.  Only :meth:`random.Random.random` is used, the one generator method whose
sequence Python promises to keep.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Determiner = Literal["definite", "indefinite", "my"]


@dataclass(frozen=True)
class NounPhrase:
    """Somebody or something: names, or a noun with a determiner or a number, and at most one adjective.

    ``kind`` is the lexicon's section of the noun, ``quality_kind`` that of the adjective.
    """

    names: tuple[str, ...] = ()
    kind: str = ""
    noun: str = ""
    determiner: Determiner | None = None
    number: int = 1
    quality: str = ""
    quality_kind: str = ""

    @property
    def is_plural(self) -> bool:
        return len(self.names) > 1 or self.number > 1


@dataclass(frozen=True)
class Place:
    """A preposition, of the lexicon's section ``kind``, and where."""

    kind: str
    preposition: str
    where: NounPhrase


@dataclass(frozen=True)
class Meaning:
    """One sentence: the rule's name, and what stands in its places."""

    rule: str
    phrases: Mapping[str, NounPhrase] = field(default_factory=dict)  # subject, subject2, object, object2, recipient, companion
    verbs: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # by "" or "2": section and concept
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # feeling, quality, quality2, time, adverb: section and concept
    places: Mapping[str, Place] = field(default_factory=dict)  # place, direction


class _Drawing:
    """Draws parts of meanings from the concepts of a lexicon."""

    def __init__(self, rng: random.Random, concepts: Mapping[str, Sequence[str]]) -> None:
        self.rng, self.concepts = rng, concepts

    def of(self, section: str) -> str:
        return self.one(self.concepts[section])

    def one(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.random() * len(choices))]

    def share(self, share: float) -> bool:
        return self.rng.random() < share

    def name(self) -> NounPhrase:
        return NounPhrase(names=(self.of("names"),))

    def person(self) -> NounPhrase:
        if self.share(0.4):
            return self.name()
        determiner: Determiner = "my" if self.share(0.25) else "definite"
        quality = self.of("ages") if self.share(0.35) else ""
        return NounPhrase(kind="roles", noun=self.of("roles"), determiner=determiner, quality=quality, quality_kind="ages")

    def subject(self) -> NounPhrase:
        """A person, or now and then two by name."""
        if not self.share(0.15):
            return self.person()
        first = self.of("names")
        others = [name for name in self.concepts["names"] if name != first]
        return NounPhrase(names=(first, self.one(others)))

    def quality(self, share: float) -> tuple[str, str]:
        if not self.share(share):
            return "", ""
        kind = "colours" if self.share(0.4) else "qualities"
        return self.of(kind), kind

    def thing(self) -> NounPhrase:
        determiners: tuple[Determiner, ...] = ("definite", "indefinite", "indefinite", "my")
        determiner = determiners[int(self.rng.random() * len(determiners))]
        quality, kind = self.quality(0.6)
        return NounPhrase(kind="items", noun=self.of("items"), determiner=determiner, quality=quality, quality_kind=kind)

    def counted(self, kinds: Sequence[str] = ("items",)) -> NounPhrase:
        kind = self.one(kinds)
        quality, quality_kind = self.quality(0.5) if kind == "items" else ("", "")
        number = 2 + int(self.rng.random() * 11)
        return NounPhrase(kind=kind, noun=self.of(kind), number=number, quality=quality, quality_kind=quality_kind)

    def place(self, kind: str) -> Place:
        quality = self.of("qualities") if self.share(0.3) else ""
        where = NounPhrase(kind="places", noun=self.of("places"), determiner="definite", quality=quality, quality_kind="qualities")
        return Place(kind=kind, preposition=self.of(kind), where=where)

    def verb(self, section: str) -> tuple[str, str]:
        return section, self.of(section)

    def past_time(self) -> tuple[str, str]:
        return self.verb("past_times" if self.share(0.4) else "times")

    def future_time(self) -> tuple[str, str]:
        return self.verb("future_times" if self.share(0.4) else "times")


def _seen_at(d: _Drawing) -> Meaning:
    phrases = {"subject": d.subject(), "object": d.thing()}
    return Meaning("seen_at", phrases, {"": d.verb("actions")}, places={"place": d.place("places_at")})


def _seen_when(d: _Drawing) -> Meaning:
    phrases = {"subject": d.subject(), "object": d.thing()}
    return Meaning("seen_when", phrases, {"": d.verb("actions")}, {"time": d.past_time()})


def _moved_when(d: _Drawing) -> Meaning:
    words = {"time": d.past_time()}
    return Meaning("moved_when", {"subject": d.subject()}, {"": d.verb("motions")}, words, {"direction": d.place("places_to")})


def _moved_with(d: _Drawing) -> Meaning:
    phrases = {"subject": d.person(), "companion": d.name()}
    return Meaning("moved_with", phrases, {"": d.verb("motions")}, places={"direction": d.place("places_to")})


def _gave(d: _Drawing) -> Meaning:
    return Meaning("gave", {"subject": d.subject(), "object": d.thing(), "recipient": d.person()}, {"": d.verb("gifts")})


def _said(d: _Drawing) -> Meaning:
    phrases = {"subject": d.person(), "subject2": d.person(), "object": d.thing()}
    return Meaning("said", phrases, {"": d.verb("sayings"), "2": d.verb("actions")})


def _felt(d: _Drawing) -> Meaning:
    phrases = {"subject": d.subject(), "subject2": d.person(), "object": d.thing()}
    return Meaning("felt", phrases, {"2": d.verb("actions")}, {"feeling": d.verb("feelings")})


def _counted(d: _Drawing) -> Meaning:
    phrases = {"subject": d.person(), "object": d.counted(), "object2": d.counted()}
    return Meaning("counted", phrases, {"": d.verb("actions")})


def _stood(d: _Drawing) -> Meaning:
    return Meaning("stood", {"subject": d.counted(("items", "items", "roles"))}, places={"place": d.place("places_at")})


def _will(d: _Drawing) -> Meaning:
    phrases = {"subject": d.subject(), "object": d.thing()}
    return Meaning("will", phrases, {"": d.verb("actions")}, {"time": d.future_time()})


def _did(d: _Drawing) -> Meaning:
    phrases = {"subject": d.subject(), "object": d.thing()}
    return Meaning("did", phrases, {"": d.verb("actions")}, {"time": d.past_time()})


def _qualities(d: _Drawing) -> Meaning:
    things = [NounPhrase(kind="items", noun=d.of("items"), determiner="my" if d.share(0.3) else "definite") for _ in range(2)]
    words = {"quality": d.verb("qualities"), "quality2": d.verb("qualities")}
    return Meaning("qualities", {"subject": things[0], "subject2": things[1]}, words=words)


def _habit(d: _Drawing) -> Meaning:
    phrases = {"subject": d.subject(), "object": d.thing()}
    return Meaning("habit", phrases, {"": d.verb("actions")}, {"adverb": d.verb("adverbs")})


def _but(d: _Drawing) -> Meaning:
    phrases = {"subject": d.person(), "object": d.thing(), "subject2": d.name()}
    return Meaning("but", phrases, {"": d.verb("actions"), "2": d.verb("motions")}, places={"direction": d.place("places_to")})


_DRAWS: tuple[Callable[[_Drawing], Meaning], ...] = (
    _seen_at, _seen_when, _moved_when, _moved_with, _gave, _said, _felt, _counted, _stood, _will, _did, _qualities, _habit, _but,
)  # fmt: skip
RULES = tuple(draw.__name__.removeprefix("_") for draw in _DRAWS)


def draw_meaning(rng: random.Random, concepts: Mapping[str, Sequence[str]], *, rule: str | None = None) -> Meaning:
    """One sentence's meaning; ``concepts`` are the keys of a lexicon's sections.  Without ``rule``, all are equally likely."""
    number = int(rng.random() * len(_DRAWS)) if rule is None else RULES.index(rule)
    return _DRAWS[number](_Drawing(rng, concepts))
