"""How the four languages of the parallel corpus form noun phrases and verbs, over the lexicons in ``valle/corpora/lexicons``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping

from valle.corpora.parallel_meaning import NounPhrase, Place

Lexicon = Mapping[str, Mapping[str, str]]
NOMINATIVE, ACCUSATIVE, DATIVE = "nominative", "accusative", "dative"


class Morphology(ABC):
    """One language; ``lexicon`` as its YAML file has it, every entry one string."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon

    def entry(self, section: str, concept: str) -> list[str]:
        return self.lexicon[section][concept].split()

    def gender(self, phrase: NounPhrase) -> str:
        """``m``, ``f`` or ``n``; of several names ``m`` if one of them is."""
        if phrase.names:
            return "m" if any(self.lexicon["names"][name] == "m" for name in phrase.names) else "f"
        return self.entry(phrase.kind, phrase.noun)[0]

    def phrase(self, phrase: NounPhrase, case: str = NOMINATIVE) -> str:
        """The words of a noun phrase."""
        if phrase.names:
            return f" {self.lexicon['words']['and']} ".join(phrase.names)
        return self._described(phrase, case)

    def place(self, place: Place) -> str:
        """A preposition and where; the case, if any, stands behind a slash."""
        text, _, case = self.lexicon[place.kind][place.preposition].partition(" / ")
        return f"{text} {self.phrase(place.where, case or NOMINATIVE)}"

    def copula(self, name: str, subject: NounPhrase) -> str:
        """The form of a word with a singular and a plural."""
        return self.entry("words", name)[subject.is_plural]

    def trait(self, section: str, concept: str, subject: NounPhrase) -> str:
        """The copula that stands before an adjective."""
        return self.copula("trait", subject)

    def tidy(self, text: str) -> str:
        """Join words that the language joins."""
        return text

    @abstractmethod
    def _described(self, phrase: NounPhrase, case: str) -> str:
        """A noun with what belongs to it."""

    @abstractmethod
    def predicate(self, section: str, concept: str, subject: NounPhrase) -> str:
        """An adjective said of ``subject``."""

    @abstractmethod
    def verb(self, section: str, concept: str, form: str, subject: NounPhrase) -> str:
        """``form`` is past, present, future or infinitive, where the language's templates ask for it."""


class English(Morphology):
    """Adjectives before the noun; "an" before vowels."""

    def _described(self, phrase: NounPhrase, case: str) -> str:
        first = self.lexicon["numbers"][str(phrase.number)] if phrase.is_plural else self.lexicon["determiners"][str(phrase.determiner)]
        quality = [self.lexicon[phrase.quality_kind][phrase.quality]] if phrase.quality else []
        return " ".join([first, *quality, self.entry(phrase.kind, phrase.noun)[1 + phrase.is_plural]])

    def predicate(self, section: str, concept: str, subject: NounPhrase) -> str:
        return self.lexicon[section][concept]

    def verb(self, section: str, concept: str, form: str, subject: NounPhrase) -> str:
        singular, plural, past = self.entry(section, concept)
        return {"past": past, "infinitive": plural, "present": plural if subject.is_plural else singular}[form]

    def tidy(self, text: str) -> str:
        return re.sub(r"\ba (?=[aeiou])", "an ", text)


class Spanish(Morphology):
    """Adjectives after the noun, in its gender and number; ser and estar; al, del."""

    def _described(self, phrase: NounPhrase, case: str) -> str:
        gender, *forms = self.entry(phrase.kind, phrase.noun)
        quality = [self.predicate(phrase.quality_kind, phrase.quality, phrase)] if phrase.quality else []
        return " ".join([self._first(phrase, gender), forms[phrase.is_plural], *quality])

    def _first(self, phrase: NounPhrase, gender: str) -> str:
        if phrase.is_plural:
            return self.lexicon["numbers"][str(phrase.number)]
        forms = self.entry("determiners", str(phrase.determiner))
        return forms[0] if phrase.determiner == "my" else forms[gender == "f"]

    def predicate(self, section: str, concept: str, subject: NounPhrase) -> str:
        forms = [form for form in self.entry(section, concept) if form != "~"]
        is_feminine = self.gender(subject) == "f"
        if len(forms) == 4:
            return forms[is_feminine + 2 * subject.is_plural]
        form = forms[-1] if is_feminine else forms[0]
        return (form + ("s" if form[-1] in "aeiou" else "es")) if subject.is_plural else form

    def trait(self, section: str, concept: str, subject: NounPhrase) -> str:
        return self.copula("state" if self.entry(section, concept)[0] == "~" else "trait", subject)

    def verb(self, section: str, concept: str, form: str, subject: NounPhrase) -> str:
        *forms, future = self.entry(section, concept)
        if form == "future":
            return future.removesuffix("á") + ("án" if subject.is_plural else "á")
        return forms[{"present": 0, "past": 2}[form] + subject.is_plural]

    def tidy(self, text: str) -> str:
        return re.sub(r"\b(a|de) el\b", lambda match: {"a": "al", "de": "del"}[match[1]], text)


# German (Duden): endings of the article, of the adjective after "der" (weak) and after "ein" (mixed); after a bare number it is -e.
_ENDINGS = {
    NOMINATIVE: {"m": ("er", "", "e", "er"), "f": ("ie", "e", "e", "e"), "n": ("as", "", "e", "es")},
    ACCUSATIVE: {"m": ("en", "en", "en", "en"), "f": ("ie", "e", "e", "e"), "n": ("as", "", "e", "es")},
    DATIVE: {"m": ("em", "em", "en", "en"), "f": ("er", "er", "en", "en"), "n": ("em", "em", "en", "en")},
}  # fmt: skip
_JOINED = {"zu dem": "zum", "zu der": "zur", "in dem": "im"}


class German(Morphology):
    """Three genders, and nominative, accusative and dative of the singular; plurals stand after numbers, in the first two."""

    def _described(self, phrase: NounPhrase, case: str) -> str:
        gender, singular, plural, *oblique = self.entry(phrase.kind, phrase.noun)
        stem = self.entry(phrase.quality_kind, phrase.quality)[-1] if phrase.quality else ""
        if phrase.is_plural:
            words = [self.lexicon["numbers"][str(phrase.number)], f"{stem}e" if stem else "", plural]
            return " ".join(filter(None, words))
        article, indefinite, weak, mixed = _ENDINGS[case][gender]
        is_definite = phrase.determiner == "definite"
        first = self.lexicon["determiners"][str(phrase.determiner)] + (article if is_definite else indefinite)
        noun = oblique[0] if oblique and case != NOMINATIVE else singular
        return " ".join(filter(None, [first, stem and stem + (weak if is_definite else mixed), noun]))

    def predicate(self, section: str, concept: str, subject: NounPhrase) -> str:
        return self.entry(section, concept)[0]

    def verb(self, section: str, concept: str, form: str, subject: NounPhrase) -> str:
        forms = self.entry(section, concept)
        return forms[1] if form == "infinitive" else forms[{"present": 0, "past": 2}[form] + subject.is_plural]

    def tidy(self, text: str) -> str:
        return re.sub(r"\b(?:zu dem|zu der|in dem)\b", lambda match: _JOINED[match[0]], text)


class French(Morphology):
    """Adjectives on either side, past with avoir or être, elisions and contractions."""

    def _described(self, phrase: NounPhrase, case: str) -> str:
        gender, *forms = self.entry(phrase.kind, phrase.noun)
        noun, is_before, quality = forms[phrase.is_plural], False, ""
        if phrase.quality:
            is_before = self.entry(phrase.quality_kind, phrase.quality)[0] == "<"
            quality = self.predicate(phrase.quality_kind, phrase.quality, phrase, before=noun if is_before else "")
        words = [quality, noun] if is_before else [noun, quality]
        words = [word for word in words if word]
        return " ".join([self._first(phrase, gender, words[0]), *words])

    def _first(self, phrase: NounPhrase, gender: str, following: str) -> str:
        if phrase.is_plural:
            return self.lexicon["numbers"][str(phrase.number)]
        forms = self.entry("determiners", str(phrase.determiner))
        is_masculine = gender == "m" or (phrase.determiner == "my" and _begins_with_vowel(following))  # mon assiette
        return forms[0] if is_masculine else forms[1]

    def predicate(self, section: str, concept: str, subject: NounPhrase, *, before: str = "") -> str:
        """With ``before``, the noun that follows it: vieil, nouvel and bel stand before vowels."""
        masculine, *others = [form for form in self.entry(section, concept) if form != "<"]
        if self.gender(subject) == "f":
            form = others[0] if others else masculine
        elif len(others) > 1 and not subject.is_plural and before and _begins_with_vowel(before):
            form = others[1]
        else:
            form = masculine
        if not subject.is_plural or form[-1] in "sx":
            return form
        return form + ("x" if form.endswith("eau") else "s")

    def verb(self, section: str, concept: str, form: str, subject: NounPhrase) -> str:
        singular, plural, participle, future, *auxiliary = self.entry(section, concept)
        if form == "future":
            return future.removesuffix("a") + ("ont" if subject.is_plural else "a")
        if form == "present":
            return plural if subject.is_plural else singular
        if not auxiliary:
            return f"{self.copula('avoir', subject)} {participle}"
        agreement = ("e" if self.gender(subject) == "f" else "") + ("s" if subject.is_plural else "")
        return f"{self.copula(auxiliary[0], subject)} {participle}{agreement}"

    def tidy(self, text: str) -> str:
        text = re.sub(r"\b(l)[ea] (?=[aeiouyhâàéèêîïôûœ])", r"\1'", text, flags=re.IGNORECASE)
        text = re.sub(r"\b(de|que) (?=[aeiouyhâàéèêîïôûœ])", lambda match: match[1][:-1] + "'", text, flags=re.IGNORECASE)
        return re.sub(r"\b(de|à) le\b", lambda match: {"de": "du", "à": "au"}[match[1]], text)


def _begins_with_vowel(word: str) -> bool:
    return word[0].lower() in "aeiouyhâàéèêîïôûœ"
