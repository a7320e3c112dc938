"""Texts of several sentences that tell one small story, for the embedded corpus.

Sentences of :mod:`valle.corpora.espeak_grammar` have nothing to do with each other.  Those of a story share a person, a thing and a
place, and its days follow each other; some sentences hold agreement across a phrase ("the lamps near the river were new").  All words
are of the same lexicon.  A text belongs to one part by a hash of all its words.

    On Monday Anna found a red lamp near the river. Two lamps near the bridge were broken. On Tuesday Anna painted the lamp.
"""

from __future__ import annotations

import random
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal, TypeVar

from valle.corpora.espeak_grammar import RULES, part_of, words_of

Choice = TypeVar("Choice")
Fact = Literal["person", "thing", "place", "day"]
FACTS: tuple[Fact, ...] = ("person", "thing", "place", "day")
DAYS = tuple(RULES["DAY"])
COUNTABLE = tuple((one, many) for one in RULES["ITEM"] for many in (f"{one}s", f"{one}es") if many in RULES["ITEMS"])  # "lamp", "lamps"
PAST_OF = dict(zip(RULES["SEE"], (verb for verb in RULES["SAW"] if verb != "loved"), strict=True))  # the others stand in one order
ENDINGS: dict[Fact, str] = {
    "person": "On {next_day} {person} {saw_then} the {thing}.",
    "thing": "On {next_day} {person} {saw_then} the {thing}.",
    "place": "On {next_day} the {thing} was {near} the {place}.",
    "day": "On {next_day} {person} {saw_then} the {thing}.",
}


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a text is about."""

    person: str
    thing: str
    place: str
    day: str
    saw: str
    saw_then: str
    colour: str
    near: str

    @property
    def next_day(self) -> str:
        """The day after ``day``."""
        return DAYS[(DAYS.index(self.day) + 1) % len(DAYS)]

    def beginning(self) -> str:
        """The sentence that names all facts."""
        return with_articles(self._filled("On {day} {person} {saw} a {colour} {thing} {near} the {place}."))

    def ending(self, fact: Fact) -> str:
        """A last sentence that ``fact`` decides."""
        return with_articles(self._filled(ENDINGS[fact]))

    def _filled(self, text: str) -> str:
        return text.format(**vars(self), next_day=self.next_day)


def draw_story(rng: random.Random) -> Story:
    """A story of words of the grammar; what is done with the thing the next day is something else."""
    saw = one_of(rng, RULES["SAW"])
    return Story(
        person=one_of(rng, RULES["NAME"]), thing=one_of(rng, RULES["ITEM"]), place=one_of(rng, RULES["PLACE"]), day=one_of(rng, DAYS),
        saw=saw, saw_then=one_of(rng, [verb for verb in RULES["SAW"] if verb != saw]), colour=one_of(rng, RULES["COLOUR"]),
        near=one_of(rng, RULES["NEAR"]),
    )  # fmt: skip


def draw_middle(rng: random.Random, story: Story) -> str:
    """A sentence between beginning and ending: about the person or the thing, or one with an agreement across a phrase."""
    one, many = one_of(rng, COUNTABLE)
    see = one_of(rng, tuple(PAST_OF))
    item, place, quality = one_of(rng, RULES["ITEM"]), one_of(rng, RULES["PLACE"]), one_of(rng, RULES["QUALITY"])
    quality_too, colour, name = one_of(rng, RULES["QUALITY"]), one_of(rng, RULES["COLOUR"]), one_of(rng, RULES["NAME"])
    options = (
        f"{story.person} was {one_of(rng, RULES['FEELING'])}.",
        f"The {story.thing} was {quality}.",
        f"The {one} near the {quality_too} {place} was {quality}.",
        f"The {many} near the {quality_too} {place} were {quality}.",
        f"{name} will {see} the {quality} {item} tomorrow.",
        f"{name} {PAST_OF[see]} the {quality} {item} yesterday.",
        f"{name} {story.saw} a {quality} {colour} {one} near the {place}.",
        f"{name} {story.saw} {one_of(rng, RULES['SMALL'])} {quality} {colour} {many} near the {place}.",
    )
    return with_articles(one_of(rng, options))


def draw_discourse(rng: random.Random, *, part: str, num_sentences: int, withheld: Set[str] = frozenset()) -> str:
    """A story of ``num_sentences``, two or three, that belongs to ``part`` and says no ``withheld`` word.

    Raises ``ValueError`` for other numbers of sentences.
    """
    if num_sentences not in (2, 3):
        raise ValueError(f"expected a story of 2 or 3 sentences, found {num_sentences}")
    while True:
        story = draw_story(rng)
        middle = [draw_middle(rng, story)] if num_sentences == 3 else []
        text = " ".join([story.beginning(), *middle, story.ending(one_of(rng, FACTS))])
        if part_of(text) == part and withheld.isdisjoint(words_of(text)):
            return text


def with_articles(sentence: str) -> str:
    """``a`` before a vowel as ``an``, and a capital at the beginning."""
    words = sentence.split()
    for position, word in enumerate(words[:-1]):
        if word == "a" and words[position + 1][0] in "aeiou":
            words[position] = "an"
    text = " ".join(words)
    return text[0].upper() + text[1:]


def one_of(rng: random.Random, options: Sequence[Choice]) -> Choice:
    """Drawn by ``random`` alone, whose sequence Python promises to keep."""
    return options[int(rng.random() * len(options))]
