"""The parallel grammar: every rule in every language, agreement, and one translation for each sentence."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valle.corpora.espeak_grammar import PARTS, part_of
from valle.corpora.parallel_grammar import LANGUAGES, UnknownLanguageError, concepts, draw_sentence, find_languages, lexicon, say
from valle.corpora.parallel_meaning import RULES, Meaning, NounPhrase, Place, draw_meaning

CODES = tuple(LANGUAGES)
seeds = st.integers(0, 2**32)
SECTIONS = [name for name in lexicon("en") if name not in ("words", "templates")]


@pytest.mark.parametrize("code", CODES)
def test_every_lexicon_has_every_rule_and_every_concept(code: str) -> None:
    assert set(lexicon(code)["templates"]) == set(RULES)
    assert {name: set(lexicon(code)[name]) for name in SECTIONS} == {name: set(lexicon("en")[name]) for name in SECTIONS}


@pytest.mark.parametrize("code", CODES)
def test_no_two_concepts_of_a_section_have_one_word(code: str) -> None:
    for name in SECTIONS:
        if name not in ("names", "determiners"):
            assert len(set(lexicon(code)[name].values())) == len(lexicon(code)[name]), name


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_said_in_every_language(rule: str, code: str) -> None:
    for seed in range(20):
        sentence = say(draw_meaning(random.Random(seed), concepts(), rule=rule), code)
        first = next(letter for letter in sentence if letter.isalpha())
        assert first.isupper() and sentence[-1] in ".?" and "  " not in sentence
        assert not set(sentence) & set("{}<>~/" + string.digits)


def test_each_sentence_has_one_translation() -> None:
    rng = random.Random(0)
    rows = {tuple(say(meaning, code) for code in CODES) for meaning in (draw_meaning(rng, concepts()) for _ in range(3000))}
    for place, code in enumerate(CODES):
        assert len({row[place] for row in rows}) == len(rows), f"one sentence in {LANGUAGES[code].name} means two things"


@given(seeds, st.sampled_from(PARTS))
def test_a_sentence_and_its_translations_lie_in_one_part_which_the_english_words_tell(seed: int, part: str) -> None:
    assert part_of(say(draw_sentence(random.Random(seed), part=part), "en")) == part


@given(seeds)
def test_the_same_seed_says_the_same(seed: int) -> None:
    first, second = (draw_meaning(random.Random(seed), concepts()) for _ in range(2))
    assert [say(first, code) for code in CODES] == [say(second, code) for code in CODES]


def thing(noun: str, quality: str = "", *, determiner: str = "definite", kind: str = "items") -> NounPhrase:
    return NounPhrase(kind=kind, noun=noun, determiner=determiner, quality=quality, quality_kind="qualities")  # type: ignore[arg-type]


ANNA = NounPhrase(names=("Anna",))
BOTH = NounPhrase(names=("Anna", "Peter"))
GOLDEN = [
    (
        Meaning("gave", {"subject": ANNA, "object": thing("apple", determiner="indefinite"), "recipient": thing("soldier", kind="roles")},
                {"": ("gifts", "give")}),
        ["Anna gave an apple to the soldier.", "Anna dio una manzana al soldado.", "Anna gab dem Soldaten einen Apfel.",
         "Anna a donné une pomme au soldat."],
    ),
    (
        Meaning("but", {"subject": BOTH, "object": thing("plate", "old", determiner="my"), "subject2": ANNA},
                {"": ("actions", "find"), "2": ("motions", "come")},
                places={"direction": Place("places_to", "towards", thing("hospital", "new", kind="places"))}),
        ["Anna and Peter found my old plate, but Anna came towards the new hospital.",
         "Anna y Peter encontraron mi plato viejo, pero Anna vino hacia el hospital nuevo.",
         "Anna und Peter fanden meinen alten Teller, aber Anna kam zum neuen Krankenhaus.",
         "Anna et Peter ont trouvé ma vieille assiette, mais Anna est venue vers le nouvel hôpital."],
    ),
    (
        Meaning("felt", {"subject": thing("aunt", kind="roles"), "subject2": BOTH, "object": thing("clock")},
                {"2": ("actions", "steal")}, {"feeling": ("feelings", "happy")}),
        ["The aunt was happy because Anna and Peter stole the clock.", "La tía estaba contenta porque Anna y Peter robaron el reloj.",
         "Die Tante war glücklich, weil Anna und Peter die Uhr stahlen.",
         "La tante était heureuse parce qu'Anna et Peter ont volé l'horloge."],
    ),
    (
        Meaning("qualities", {"subject": thing("cup"), "subject2": thing("lamp")},
                words={"quality": ("qualities", "empty"), "quality2": ("qualities", "beautiful")}),
        ["The cup was empty, and the lamp was beautiful too.", "La taza estaba vacía, y la lámpara también era hermosa.",
         "Die Tasse war leer, und die Lampe war auch schön.", "La tasse était vide, et la lampe était belle aussi."],
    ),
    (
        Meaning("stood", {"subject": NounPhrase(kind="items", noun="cake", number=3, quality="grey", quality_kind="colours")},
                places={"place": Place("places_at", "inside", thing("station", kind="places"))}),
        ["Three grey cakes were inside the station.", "Tres pasteles grises estaban dentro de la estación.",
         "Drei graue Kuchen waren im Bahnhof.", "Trois gâteaux gris étaient dans la gare."],
    ),
    (
        Meaning("will", {"subject": BOTH, "object": thing("shirt", "expensive")}, {"": ("actions", "see")}, {"time": ("times", "monday")}),
        ["Anna and Peter will see the expensive shirt on Monday.", "Anna y Peter verán la camisa cara el lunes.",
         "Anna und Peter werden am Montag das teure Hemd sehen.", "Anna et Peter verront la chemise chère lundi."],
    ),
    (
        Meaning("did", {"subject": ANNA, "object": thing("horse", "beautiful", determiner="indefinite")}, {"": ("actions", "draw")},
                {"time": ("past_times", "yesterday")}),
        ["Did Anna draw a beautiful horse yesterday?", "¿Dibujó Anna un caballo hermoso ayer?", "Zeichnete Anna gestern ein schönes Pferd?",
         "Est-ce qu'Anna a dessiné un beau cheval hier ?"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("meaning", "sentences"), GOLDEN, ids=lambda value: value.rule if isinstance(value, Meaning) else "")
def test_gender_case_agreement_and_contractions(meaning: Meaning, sentences: list[str]) -> None:
    assert [say(meaning, code) for code in CODES] == sentences


@pytest.mark.parametrize("codes", ["", "en,en", "en,xx", "english"])
def test_languages_that_are_not_there_are_refused_in_a_sentence(codes: str) -> None:
    with pytest.raises(UnknownLanguageError, match="write en,es"):
        find_languages(codes)
