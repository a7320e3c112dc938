"""Which word sequences occur within texts of the embedded corpus's grammar: it has no recursion, so it is a finite automaton."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache

from valle.corpora.espeak_grammar import RULES, lexicon

_PUNCTUATION = ".,?"


class GrammarFragments:
    """The automaton whose states are the places of words in a sentence (Glushkov 1961); after a sentence another one begins."""

    def __init__(self, rules: Mapping[str, Sequence[str]], start: str = "SENTENCE") -> None:
        self.rules = rules
        self.words: list[frozenset[str]] = []  # of every place
        self.after: list[Collection[int]] = []  # places that may follow it
        begin: list[int] = []  # filled below: what follows the end of a sentence
        begin.extend(sorted(self._first(start, begin)))

    def allows(self, words: Sequence[str]) -> bool:
        """Whether ``words``, in lower case, stand one after another in some text.

        >>> fragments().allows(["found", "the", "lamp"]), fragments().allows(["the", "found", "lamp"])
        (True, False)
        """
        places: Iterable[int] = range(len(self.words))
        for number, word in enumerate(words):
            if number:
                places = {following for place in places for following in self.after[place]}
            places = [place for place in places if word in self.words[place]]
        return bool(places) or not words

    def _first(self, symbol: str, after: Collection[int]) -> set[int]:
        """Add the places of ``symbol`` before ``after``; returns those at which it can begin."""
        options = self.rules[symbol]
        if all(option not in self.rules and " " not in option for option in options):
            return {self._place(frozenset(option.lower() for option in options), after)}
        found: set[int] = set()
        for option in dict.fromkeys(options):
            following = after
            for part in reversed([word.strip(_PUNCTUATION) for word in option.split()]):
                if part in self.rules:
                    following = self._first(part, following)
                else:
                    following = {self._place(frozenset({"a", "an"} if part == "a" else {part.lower()}), following)}
            found.update(following)
        return found

    def _place(self, words: frozenset[str], after: Collection[int]) -> int:
        self.words.append(words)
        self.after.append(after)
        return len(self.words) - 1


@cache
def fragments() -> GrammarFragments:
    """Of :data:`valle.corpora.espeak_grammar.RULES`."""
    made = GrammarFragments(RULES)
    assert frozenset().union(*made.words) == lexicon()
    return made
