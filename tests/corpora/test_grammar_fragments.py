import random

from valle.corpora.espeak_grammar import draw_sentence, lexicon, words_of
from valle.corpora.grammar_fragments import GrammarFragments, fragments


def test_every_stretch_of_drawn_texts_is_allowed() -> None:
    rng = random.Random(0)
    for _ in range(100):
        words = words_of(f"{draw_sentence(rng)} {draw_sentence(rng)}")
        assert fragments().allows(words), words
        assert all(fragments().allows(words[start : start + 3]) for start in range(len(words)))


def test_words_in_an_order_that_no_text_has_are_refused() -> None:
    for wrong in ("the found lamp", "lamp the on", "house house house", "found the unknownword"):
        assert not fragments().allows(wrong.split()), wrong


def test_shuffled_words_are_mostly_refused() -> None:
    """Else the measure would tell nothing."""
    rng = random.Random(1)
    words = sorted(lexicon())
    allowed = sum(fragments().allows(rng.sample(words, 3)) for _ in range(1000))
    assert allowed < 20


def test_a_small_grammar_gives_exactly_its_sequences() -> None:
    tiny = GrammarFragments({"SENTENCE": ("WHO ran.", "a WHO slept."), "WHO": ("cat", "dog")})
    assert tiny.allows(["dog", "ran"]) and tiny.allows(["a", "cat", "slept"]) and tiny.allows(["an", "cat", "slept", "dog", "ran"])
    assert not tiny.allows(["a", "dog", "ran"]) and not tiny.allows(["ran", "slept"])
