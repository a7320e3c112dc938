"""Sentences of the embedded corpus: a small context-free grammar over a known lexicon of a few hundred words.

The grammar is varied enough that a corpus of any size repeats no text by need (it spans more than 10**12
sentences) and regular enough that a small language model learns it within minutes.  Every sentence belongs to
exactly one part (train, dev or test) by a hash of its words, so the parts share no sentence.

eSpeak runs some pairs of words together ("of the", "with the", "there were") and times them as one; the rules
hold no such pair, so that every word has a time.

Only :meth:`random.Random.random` is used, the one generator method whose sequence Python promises to keep.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType

PARTS = ("train", "dev", "test")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# A symbol in capitals is expanded; anything else is a word.  An alternative written twice is twice as likely.
RULES: Mapping[str, Sequence[str]] = MappingProxyType({
    "SENTENCE": (
        "SUBJECT SAW OBJECT WHERE.",
        "SUBJECT SAW OBJECT WHERE.",
        "WHEN SUBJECT SAW OBJECT.",
        "WHEN, SUBJECT MOVED WHITHER.",
        "SUBJECT MANNER MOVED WHITHER WHEN.",
        "SUBJECT SAW COUNTED and COUNTED WHERE.",
        "SUBJECT GAVE OBJECT to PERSON.",
        "SUBJECT SAID that NAME SAW OBJECT.",
        "PERSON was FEELING because PERSON SAW OBJECT.",
        "CONJUNCTION PERSON MOVED WHITHER, PERSON SAW OBJECT.",
        "NUMBER QUALITY ITEMS were NEAR the PLACE.",
        "did PERSON SEE OBJECT WHERE?",
        "PERSON will SEE OBJECT SOON.",
        "NAME and NAME SAW OBJECT, but NAME MOVED WHITHER.",
        "OBJECT was QUALITY, and THING was QUALITY too.",
    ),
    "SUBJECT": ("NAME", "NAME", "PERSON", "NAME and NAME"),
    "PERSON": ("NAME", "the ROLE", "the AGE ROLE", "my ROLE"),
    "OBJECT": ("THING", "THING", "a COLOUR ITEM", "the QUALITY ITEM"),
    "THING": ("the ITEM", "a ITEM", "a QUALITY COLOUR ITEM", "my ITEM"),
    "COUNTED": ("NUMBER ITEMS", "NUMBER COLOUR ITEMS", "NUMBER QUALITY ITEMS"),
    "NUMBER": ("SMALL", "SMALL", "TEEN", "TENS", "TENS UNIT"),
    "WHERE": ("NEAR the PLACE", "NEAR the QUALITY PLACE", "NEAR my PLACE"),
    "WHITHER": ("TOWARDS the PLACE", "TOWARDS the QUALITY PLACE", "TOWARDS the PLACE with NAME"),
    "WHEN": ("on DAY", "on DAY DAYTIME", "in SEASON", "in MONTH", "PAST"),
    "SOON": ("tomorrow", "next week", "next MONTH", "on DAY", "before SEASON", "after lunch"),
    "PAST": ("yesterday", "last week", "last night", "one day", "last SEASON", "after dinner", "before lunch"),
    "NAME": _words(
        "Anna Peter Maria Thomas Laura Simon Emma David Julia Martin Clara Robert Helen Oscar Nina Victor Sarah "
        "Felix Olga Daniel Ruth Henry Alice George Linda Paul Susan Arthur Karen Edward Monica Frank Diana Walter "
        "Teresa Jonas"
    ),
    "ROLE": _words(
        "teacher doctor farmer sailor painter baker driver singer writer soldier student lawyer gardener "
        "neighbour captain dentist waiter dancer hunter brother sister mother father uncle cousin child king "
        "queen"
    ),
    "AGE": _words("young old tall short clever lazy famous friendly quiet poor rich brave careful kind hungry busy"),
    "FEELING": _words("happy sad angry tired proud nervous surprised calm sorry glad afraid thirsty sick late ready"),
    "QUALITY": _words(
        "small large heavy light clean dirty broken new cheap expensive empty full round narrow wide wooden "
        "golden warm cold beautiful strange simple modern ancient wet dry soft hard"
    ),
    "COLOUR": _words("red blue green yellow black white brown grey purple orange pink silver"),
    "ITEM": _words(
        "book table chair window door lamp bottle cup plate knife spoon basket box letter picture clock mirror "
        "carpet pillow blanket jacket shirt hat shoe ring key coin stone flower apple lemon potato carrot cake "
        "sandwich bicycle car boat train wagon hammer ladder rope bucket candle drum guitar piano violin camera "
        "phone map ticket dog cat horse cow sheep rabbit duck goose mouse parrot"
    ),
    "ITEMS": _words(
        "books tables chairs windows doors lamps bottles cups plates knives spoons baskets boxes letters pictures "
        "clocks mirrors jackets shirts hats shoes rings keys coins stones flowers apples lemons potatoes carrots "
        "cakes boats wagons candles drums guitars tickets dogs cats horses cows rabbits ducks parrots"
    ),
    "PLACE": _words(
        "house garden kitchen river bridge forest mountain village city market station school library church "
        "castle harbour island beach lake field farm factory hospital museum theatre office hotel restaurant "
        "tower park street corner valley desert airport prison temple palace"
    ),
    "NEAR": _words("near behind beside outside inside under above across past around"),
    "TOWARDS": _words("towards into through across around past behind"),
    "SAW": _words(
        "found opened painted carried washed dropped bought sold lost moved stole fixed cleaned counted followed "
        "noticed covered measured collected remembered forgot borrowed wanted needed loved photographed described "
        "ordered"
    ),
    "SEE": _words(
        "find open paint carry wash drop buy sell lose move steal fix clean count follow notice cover measure "
        "collect remember forget borrow want need photograph describe order"
    ),
    "MOVED": _words(
        "walked ran drove marched hurried climbed wandered sailed jumped danced travelled crawled rode slipped"
    ),
    "MANNER": _words(
        "slowly quickly quietly suddenly carefully happily sadly never always often gladly rarely finally "
        "secretly"
    ),
    "GAVE": _words("gave showed sold offered sent lent handed returned"),
    "SAID": _words("said thought believed knew heard dreamed wrote whispered explained promised"),
    "CONJUNCTION": _words("when while before after because although"),
    "DAY": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "DAYTIME": _words("morning evening afternoon night"),
    "SEASON": _words("spring summer autumn winter"),
    "MONTH": _words("January March April June July August October November December"),
    "SMALL": _words("two three four five six seven eight nine ten"),
    "TEEN": _words("eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"),
    "TENS": _words("twenty thirty forty fifty sixty seventy eighty ninety"),
    "UNIT": _words("one two three four five six seven eight nine"),
})  # fmt: skip

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")  # "l'eau" is one
_TOKEN = re.compile(r"([A-Za-z]+)([.,?]?)")


def lexicon() -> frozenset[str]:
    """Every word that a sentence can hold, in lower case."""
    words = {token for options in RULES.values() for option in options for token, _ in _TOKEN.findall(option)}
    return frozenset(word.lower() for word in words if word not in RULES) | {"an"}


def grammar_version() -> str:
    """A hash of the rules, which changes with any of them."""
    return hashlib.blake2b(repr(sorted(RULES.items())).encode(), digest_size=8).hexdigest()


def part_of(sentence: str) -> str:
    """The one part whose texts may hold this sentence: 13 of 16 are train's, 1 dev's, 2 test's."""
    bucket = hashlib.blake2b(" ".join(words_of(sentence)).encode(), digest_size=1).digest()[0] % 16
    return "dev" if bucket == 0 else "test" if bucket <= 2 else "train"


def words_of(text: str) -> list[str]:
    """Words in lower case, without punctuation."""
    return [word.lower() for word in WORD.findall(text)]


def draw_text(rng: random.Random, *, part: str, num_sentences: int, withheld: Set[str] = frozenset()) -> str:
    """A text of ``num_sentences`` different sentences that all belong to ``part`` and say no ``withheld`` word."""
    sentences: list[str] = []
    while len(sentences) < num_sentences:
        sentence = draw_sentence(rng)
        if part_of(sentence) == part and sentence not in sentences and withheld.isdisjoint(words_of(sentence)):
            sentences.append(sentence)
    return " ".join(sentences)


def draw_sentence(rng: random.Random) -> str:
    """One sentence, capitalised and with its punctuation."""
    tokens: list[tuple[str, str]] = []
    _expand("SENTENCE", "", rng, tokens)
    words = []
    for position, (word, mark) in enumerate(tokens):
        if word == "a" and tokens[position + 1][0][0] in "aeiou":
            word = "an"
        words.append(word + mark)
    sentence = " ".join(words)
    return sentence[0].upper() + sentence[1:]


def _expand(symbol: str, mark: str, rng: random.Random, tokens: list[tuple[str, str]]) -> None:
    """Append the words of one random expansion of ``symbol``, whose last word carries ``mark``."""
    options = RULES[symbol]
    parts = _TOKEN.findall(options[int(rng.random() * len(options))])
    for position, (part, own_mark) in enumerate(parts):
        its_mark = own_mark or (mark if position == len(parts) - 1 else "")
        if part in RULES:
            _expand(part, its_mark, rng, tokens)
        else:
            tokens.append((part, its_mark))
