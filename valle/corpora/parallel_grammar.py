"""Sentences that say one thing in several languages: one grammar, a lexicon a language, agreement by ``morphology.py``.

A meaning is drawn once; every language says it by the template of its rule.  No two concepts of a section have one word in any
language, so that each sentence has one translation.  Held-out sentences are told by the English words, so a translation lies in the
part of its original.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from valle.corpora.espeak_grammar import part_of
from valle.corpora.morphology import ACCUSATIVE, DATIVE, NOMINATIVE, English, French, German, Morphology, Spanish
from valle.corpora.parallel_meaning import Meaning, draw_meaning
from valle.errors import UserError

LEXICONS = Path(__file__).parent / "lexicons"
_CASES = {"subject": NOMINATIVE, "object": ACCUSATIVE, "recipient": DATIVE, "companion": DATIVE}


class UnknownLanguageError(UserError, ValueError):
    """A language that the parallel corpus does not have."""


@dataclass(frozen=True)
class Language:
    """A language by its two-letter ``code``; ``name`` is what supervisions and tags call it, ``accent`` eSpeak NG's voice."""

    code: str
    name: str
    accent: str
    morphology: type[Morphology]


LANGUAGES = {
    language.code: language
    for language in (
        Language("en", "English", "en-us", English),
        Language("es", "Spanish", "es", Spanish),
        Language("de", "German", "de", German),
        Language("fr", "French", "fr", French),
    )
}


def find_languages(codes: str) -> tuple[Language, ...]:
    """The languages of ``en,es``; raises ``UnknownLanguageError``.

    >>> [language.name for language in find_languages("en,de")]
    ['English', 'German']
    """
    wanted = [code.strip() for code in codes.split(",") if code.strip()]
    unknown = [code for code in wanted if code not in LANGUAGES]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        raise UnknownLanguageError(
            f"expected some of the languages {', '.join(LANGUAGES)}, with commas, for --languages, found {codes!r}; write en,es"
        )
    return tuple(LANGUAGES[code] for code in wanted)


@cache
def lexicon(code: str) -> dict[str, dict[str, str]]:
    """The sections of a language's lexicon: concept to what the file says of it."""
    path = LEXICONS / f"{LANGUAGES[code].name.lower()}.yaml"
    sections: dict[str, dict[Any, str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: {str(concept): text for concept, text in entries.items()} for name, entries in sections.items()}


@cache
def concepts() -> dict[str, tuple[str, ...]]:
    """The concepts of every section, by which meanings are drawn."""
    return {name: tuple(entries) for name, entries in lexicon("en").items()}


@cache
def _morphology(code: str) -> Morphology:
    return LANGUAGES[code].morphology(lexicon(code))


def say(meaning: Meaning, code: str) -> str:
    """The sentence of ``meaning`` in a language, with a capital letter and its punctuation."""
    template = lexicon(code)["templates"][meaning.rule]
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name]
    text = _morphology(code).tidy(template.format(**{name: _said(name, meaning, _morphology(code)) for name in names}))
    first = next(place for place, letter in enumerate(text) if letter.isalpha())
    return text[:first] + text[first].upper() + text[first + 1 :]


def _said(place: str, meaning: Meaning, language: Morphology) -> str:
    """The words in one place of a template: ``object``, ``past2``, ``quality``, ..."""
    kind, number = place.rstrip("2"), "2" if place.endswith("2") else ""
    if kind in _CASES:
        return language.phrase(meaning.phrases[place], _CASES[kind])
    if place in meaning.places:
        return language.place(meaning.places[place])
    subject = meaning.phrases["subject" + number]
    if kind in ("past", "present", "future", "infinitive"):
        return language.verb(*meaning.verbs[number], kind, subject)
    if kind == "trait":
        return language.trait(*meaning.words["quality" + number], subject)
    if kind in ("state", "aux"):
        return language.copula(kind, subject)
    section, concept = meaning.words[place]
    return language.predicate(section, concept, subject) if kind in ("feeling", "quality") else language.lexicon[section][concept]


def draw_sentence(rng: random.Random, *, part: str) -> Meaning:
    """A meaning whose sentences belong to ``part`` (see ``espeak_grammar.part_of``)."""
    while True:
        meaning = draw_meaning(rng, concepts())
        if part_of(say(meaning, "en")) == part:
            return meaning
