"""Words as they are compared: one spelling, numbers written out, and how many edits lie between two sequences."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_TOKEN = re.compile(r"\d[\d,]*\d|\d|[^\W\d_]+(?:['’][^\W\d_]+)*")
# The same word in American spelling, which recognisers prefer; what is not listed here counts as another word.
BRITISH: Mapping[str, str] = MappingProxyType({
    "gray": "grey", "neighbor": "neighbour", "neighbors": "neighbours", "harbor": "harbour", "theater": "theatre",
    "traveled": "travelled", "color": "colour", "colors": "colours", "favorite": "favourite", "honor": "honour", "center": "centre",
})  # fmt: skip


def words_of_speech(text: str) -> list[str]:
    """Words in lower case without marks and accents, whole numbers written out in English, British spelling.

    >>> words_of_speech("The neighbor's 24 lamps, isn't it?")
    ['the', 'neighbors', 'twenty', 'four', 'lamps', 'isnt', 'it']
    """
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(letter))
    words: list[str] = []
    for token in _TOKEN.findall(plain):
        if token[0].isdecimal():
            words += number_in_words(int(token.replace(",", "")))
        else:
            word = re.sub("['’]", "", token)
            words.append(BRITISH.get(word, word))
    return words


def number_in_words(number: int) -> list[str]:
    """A number of 0 to 999,999 as it is said; a larger one digit by digit."""
    if number < 20:
        return [_SMALL[number]]
    if number < 100:
        tens, ones = divmod(number, 10)
        return [_TENS[tens], *([_SMALL[ones]] if ones else [])]
    if number < 1_000_000:
        size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
        many, rest = divmod(number, size)
        return [*number_in_words(many), name, *(number_in_words(rest) if rest else [])]
    return [_SMALL[int(digit)] for digit in str(number)]


def edit_distance(found: Sequence[object], expected: Sequence[object]) -> int:
    """The fewest insertions, deletions and substitutions from one sequence to the other (Levenshtein 1966)."""
    row = list(range(len(expected) + 1))
    for number, item in enumerate(found, 1):
        diagonal, row[0] = row[0], number
        for place, wanted in enumerate(expected, 1):
            diagonal, row[place] = row[place], min(diagonal + (item != wanted), row[place] + 1, row[place - 1] + 1)
    return row[-1]


def longest_common_run(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest stretch of ``one`` that stands in ``other`` too, without a gap."""
    best, before = 0, [0] * (len(other) + 1)
    for item in one:
        row = [0] * (len(other) + 1)
        for place, there in enumerate(other, 1):
            if item == there:
                row[place] = before[place - 1] + 1
                best = max(best, row[place])
        before = row
    return best


def repeats(words: Sequence[str], *, longest: int = 4, times: int = 3) -> bool:
    """Whether 1 to ``longest`` words stand ``times`` times in a row, as in a recogniser's loops."""
    for size in range(1, longest + 1):
        for start in range(len(words) - size * times + 1):
            first = list(words[start : start + size])
            if all(list(words[start + turn * size : start + (turn + 1) * size]) == first for turn in range(1, times)):
                return True
    return False
