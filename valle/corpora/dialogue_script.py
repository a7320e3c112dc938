"""Small talk by rules: a question and an answer over the embedded corpus's lexicon, and whether given words are an answer.

An answer repeats some of its question's words and adds one of a kind that the question asks for: a place after "where", a number
after "how many".  So a program can tell by words alone whether an answer fits its question, and no answer fits many questions.

Only :meth:`random.Random.random` is used, the one generator method whose sequence Python promises to keep.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from valle.corpora.espeak_discourse import PAST_OF, one_of
from valle.corpora.espeak_grammar import RULES, part_of, words_of

BACK_CHANNELS = ("Okay.", "Right.", "Really?", "Yes.", "I see.")
KINDS: Mapping[str, tuple[str, ...]] = {
    "name": tuple(RULES["NAME"]),
    "role": tuple(RULES["ROLE"]),
    "feeling": tuple(RULES["FEELING"]),
    "quality": tuple(RULES["QUALITY"]),
    "colour": tuple(RULES["COLOUR"]),
    "item": tuple(RULES["ITEM"]),
    "items": tuple(RULES["ITEMS"]),
    "place": tuple(RULES["PLACE"]),
    "near": tuple(RULES["NEAR"]),
    "moved": tuple(RULES["MOVED"]),
    "day": tuple(RULES["DAY"]),
    "number": (*RULES["SMALL"], *RULES["TEEN"]),
    "see": tuple(PAST_OF),
    "saw": tuple(PAST_OF.values()),
}
_SLOT = re.compile(r"\{([a-z]+)(2?)\}")


@dataclass(frozen=True)
class Rule:
    """One kind of question; ``{place}`` stands for a word of that kind, ``{name2}`` for another of the same kind than ``{name}``.

    ``repeats`` are the places that an answer says again, ``adds`` the one that it brings.
    """

    name: str
    question: str
    answers: tuple[str, ...]
    repeats: tuple[str, ...]
    adds: str

    def fill(self, template: str, words: Mapping[str, str]) -> str:
        """A template with its words."""
        return _SLOT.sub(lambda slot: words[slot[1] + slot[2]], template)

    @property
    def slots(self) -> list[str]:
        """All places, the question's first."""
        found = [kind + number for template in (self.question, *self.answers) for kind, number in _SLOT.findall(template)]
        return list(dict.fromkeys(found))

    def read(self, question: list[str]) -> dict[str, str] | None:
        """The words in a question's places; None for a question of another rule."""
        match = _pattern(self.question).fullmatch(" ".join(question))
        if match is None:
            return None
        words = match.groupdict()
        return {**words, "saw": PAST_OF[words["see"]]} if "see" in words else words


SCRIPT = (
    Rule(
        "greeting", "Hello, my name is {name} and I am {feeling}.",
        ("Hello {name}, my name is {name2}.", "Nice to meet you {name}, I am {name2}."), ("name",), "name2",
    ),
    Rule(
        "where", "Where did you {see} the {colour} {item}?",
        ("I {saw} the {colour} {item} {near} the {place}.", "I {saw} the {item} {near} the {place}."), ("saw", "item"), "place",
    ),
    Rule(
        "when", "When did {name} {see} the {item}?",
        ("{name} {saw} the {item} on {day}.", "On {day}, {name} {saw} the {item}."), ("name", "saw", "item"), "day",
    ),
    Rule(
        "who", "Who {saw} the {quality} {item}?",
        ("The {role} {saw} the {quality} {item}.", "My {role} {saw} the {item}."), ("saw", "item"), "role",
    ),
    Rule(
        "count", "How many {colour} {items} did you {see}?",
        ("I {saw} {number} {colour} {items}.", "I {saw} {number} {items}."), ("saw", "items"), "number",
    ),
    Rule(
        "why", "Why is the {role} {feeling}?",
        ("The {role} is {feeling} because {name} {saw} the {item}.", "Because {name} {saw} the {item}, the {role} is {feeling}."),
        ("role", "feeling"), "item",
    ),
    Rule(
        "whither", "Where did {name} go on {day}?",
        ("On {day}, {name} {moved} past the {place}.", "{name} {moved} towards the {place} on {day}."), ("name", "day"), "place",
    ),
    Rule(
        "colour", "What colour is the {item} {near} the {place}?",
        ("The {item} {near} the {place} is {colour}.", "The {item} is {colour}."), ("item",), "colour",
    ),
    Rule(
        "gift", "What did you give to {name} on {day}?",
        ("I gave the {quality} {item} to {name} on {day}.", "On {day}, I gave the {item} to {name}."), ("name", "day"), "item",
    ),
)  # fmt: skip
BY_NAME = {rule.name: rule for rule in SCRIPT}


@dataclass(frozen=True)
class Exchange:
    """A question and an answer that fits it, and the name of their rule."""

    rule: str
    question: str
    answer: str


def draw_exchange(rng: random.Random, *, part: str, rule: str | None = None) -> Exchange:
    """An exchange whose question belongs to ``part`` (see ``espeak_grammar.part_of``), so that the parts share no question."""
    while True:
        chosen = BY_NAME[rule] if rule is not None else one_of(rng, [rule for rule in SCRIPT if rule.name != "greeting"])
        words: dict[str, str] = {}
        for slot in chosen.slots:
            words[slot] = PAST_OF[words["see"]] if slot == "saw" and "see" in words else _another(rng, slot, words)
        question = chosen.fill(chosen.question, words)
        answer = chosen.fill(one_of(rng, chosen.answers), words)
        if part_of(question) == part:
            return Exchange(chosen.name, _sentence(question), _sentence(answer))


def rule_of(question: str) -> Rule | None:
    """The rule of a question by its words; None for what the script does not ask."""
    words = words_of(question)
    return next((rule for rule in SCRIPT if rule.read(words) is not None), None)


def answer_fits(question: str, answer: str) -> bool:
    """Whether ``answer`` says again what it must of ``question`` and adds a word of the kind that it asks for.

    Words alone count, in any order, so that text heard by a recogniser can be judged.  False for a question of no rule.

    >>> answer_fits("Where did you find the red hammer?", "I found the hammer behind the castle.")
    True
    >>> answer_fits("Where did you find the red hammer?", "I found seven hammers.")
    False
    """
    asked, said = words_of(question), set(words_of(answer))
    for rule in SCRIPT:
        words = rule.read(asked)
        if words is not None:
            wanted = {words[slot].lower() for slot in rule.repeats}
            brought = {word.lower() for word in KINDS[rule.adds.rstrip("2")]} - set(asked)
            return wanted <= said and bool(brought & said)
    return False


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Matches a question's words, in lower case and without marks."""
    bare = " ".join(re.findall(r"\{[a-z]+2?\}|[A-Za-z']+", template)).lower()
    return re.compile(_SLOT.sub(lambda slot: rf"(?P<{slot[1]}{slot[2]}>{_any_of(slot[1])})", bare))


def _any_of(kind: str) -> str:
    return "|".join(sorted((word.lower() for word in KINDS[kind]), key=len, reverse=True))


def _another(rng: random.Random, slot: str, words: Mapping[str, str]) -> str:
    """A word for a place, none that is said already."""
    return one_of(rng, [word for word in KINDS[slot.rstrip("2")] if word not in words.values()])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
