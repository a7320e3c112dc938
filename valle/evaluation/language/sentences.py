"""syn-BLIMP and syn-Cloze: which sentence agrees, and which ending belongs to a text.

After BLiMP (Warstadt et al. 2020) and StoryCloze (Mostafazadeh et al. 2016) as spoken by Nguyen et al. 2020 and Hassid et al. 2023, of
the embedded corpus's words.  Between the word that decides and the word that must agree stand at least two others, the same in both
contexts, so a trigram of words sees the same three words in both and is right in exactly one pair of two.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

from valle.corpora.espeak_discourse import COUNTABLE, DAYS, FACTS, PAST_OF, Fact, Story, draw_middle, draw_story, one_of, with_articles
from valle.corpora.espeak_grammar import RULES, part_of
from valle.corpora.espeak_voices import Voice
from valle.evaluation.language.spoken import Quadruple, crossed

Draw = Callable[[random.Random], tuple[tuple[str, str], tuple[str, str], tuple[str, str]]]


def blimp_quadruple(rng: random.Random, group: str, voice: Voice) -> Quadruple:
    """Of one kind of agreement (:data:`AGREEMENTS`); both right sentences belong to the test part, so that no train text holds them."""
    while True:
        contexts, continuations, rest = AGREEMENTS[group](rng)
        contexts = with_articles(contexts[0]), with_articles(contexts[1])
        right = [f"{context} {word}{end}" for context, word, end in zip(contexts, continuations, rest, strict=True)]
        if all(part_of(sentence) == "test" for sentence in right):
            return crossed("blimp", group, voice, contexts, continuations, rest)


def cloze_quadruple(rng: random.Random, group: Fact, voice: Voice) -> Quadruple:
    """Two stories that differ in one fact, and their endings, of which only the word for that fact differs."""
    while True:
        one = draw_story(rng)
        other = _with_another(rng, one, group)
        middle = _neutral_middle(rng, one, other, group) if rng.random() < 0.5 else ""
        contexts, words, rest = [], [], []
        for story in (one, other):
            word = _deciding_word(story, group)
            before, after = re.split(rf" {word}\b", story.ending(group), maxsplit=1)
            contexts.append(" ".join(part for part in (story.beginning(), middle, before) if part))
            words.append(word)
            rest.append(after)
        quadruple = crossed("cloze", group, voice, (contexts[0], contexts[1]), (words[0], words[1]), (rest[0], rest[1]))
        if all(part_of(right.text) == "test" for right, _ in quadruple.pairs):
            return quadruple


def _auxiliary(rng: random.Random) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
    """"Did the young teacher open ...?", "The young teacher opened ...": forms of the embedded grammar."""
    see = one_of(rng, tuple(PAST_OF))
    person = f"the {one_of(rng, RULES['AGE'])} {one_of(rng, RULES['ROLE'])}"
    object_ = f" the {one_of(rng, RULES['ITEM'])} {one_of(rng, RULES['NEAR'])} the {one_of(rng, RULES['PLACE'])}"
    return (f"did {person}", person), (see, PAST_OF[see]), (f"{object_}?", f"{object_}.")


def _number(rng: random.Random) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
    """"The lamp near the old bridge was ...", "The lamps near the old bridge were ..."."""
    one, many = one_of(rng, COUNTABLE)
    where = f"near the {one_of(rng, RULES['QUALITY'])} {one_of(rng, RULES['PLACE'])}"
    quality = f" {one_of(rng, RULES['QUALITY'])}."
    return (f"the {one} {where}", f"the {many} {where}"), ("was", "were"), (quality, quality)


def _tense(rng: random.Random) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
    """"Anna will open the small box tomorrow.", "Anna opened the small box yesterday."."""
    see, name = one_of(rng, tuple(PAST_OF)), one_of(rng, RULES["NAME"])
    object_ = f"the {one_of(rng, RULES['QUALITY'])} {one_of(rng, RULES['ITEM'])}"
    return (f"{name} will {see} {object_}", f"{name} {PAST_OF[see]} {object_}"), ("tomorrow", "yesterday"), (".", ".")


def _quantity(rng: random.Random) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
    """"Anna found a small blue lamp near ...", "Anna found seven small blue lamps near ..."."""
    (one, many), name, saw = one_of(rng, COUNTABLE), one_of(rng, RULES["NAME"]), one_of(rng, RULES["SAW"])
    adjectives = f"{one_of(rng, RULES['QUALITY'])} {one_of(rng, RULES['COLOUR'])}"
    where = f" near the {one_of(rng, RULES['PLACE'])}."
    return (f"{name} {saw} a {adjectives}", f"{name} {saw} {one_of(rng, RULES['SMALL'])} {adjectives}"), (one, many), (where, where)


AGREEMENTS: dict[str, Draw] = {"auxiliary": _auxiliary, "number": _number, "tense": _tense, "quantity": _quantity}
SWAPS: tuple[Fact, ...] = FACTS


def _with_another(rng: random.Random, story: Story, fact: Fact) -> Story:
    """The story with another person, thing, place or day."""
    options = {"person": RULES["NAME"], "thing": RULES["ITEM"], "place": RULES["PLACE"], "day": DAYS}[fact]
    return replace(story, **{fact: one_of(rng, [option for option in options if option != getattr(story, fact)])})


def _deciding_word(story: Story, fact: Fact) -> str:
    return story.next_day if fact == "day" else str(getattr(story, fact))


def _neutral_middle(rng: random.Random, one: Story, other: Story, fact: Fact) -> str:
    """A sentence that suits both stories and does not name the fact in which they differ."""
    differ = {_deciding_word(story, fact) for story in (one, other)}
    while True:
        state = rng.random()
        first, second = (draw_middle(random.Random(state), story) for story in (one, other))
        if first == second and not differ & set(first.strip(".").split()):
            return first
