"""What the items of a suite say, before anything is spoken: quadruples of two contexts and two continuations.

A quadruple is crossed: each of the two continuations is right in one context and wrong in the other.  So every word stands as often on
the right side as on the wrong one, and whatever tells two words apart without the context is right in one pair of two.
"""

from __future__ import annotations

from dataclasses import dataclass

from valle.corpora.espeak_voices import Voice


@dataclass(frozen=True, kw_only=True)
class Said:
    """One recording to be made: what eSpeak is given, and where in it the continuation begins (None: at the start).

    ``trigram_nats`` are those of its phonemes, where they are what an item is about.
    """

    text: str
    symbols: tuple[str, ...]
    place: int | None = None  # in characters of ``text``
    phonemes: bool = False  # whether what stands in [[ ]] are phonemes
    trigram_nats: float | None = None


@dataclass(frozen=True, kw_only=True)
class Quadruple:
    """Two pairs, ``(right, wrong)`` each, said by one voice."""

    suite: str
    group: str
    voice: Voice
    pairs: tuple[tuple[Said, Said], tuple[Said, Said]]


def crossed(
    suite: str, group: str, voice: Voice, contexts: tuple[str, str], continuations: tuple[str, str], rest: tuple[str, str]
) -> Quadruple:
    """Context A goes with continuation A and B with B; ``rest`` ends whatever stands in context A and in B."""

    def said(context: int, continuation: int) -> Said:
        text = f"{contexts[context]} {continuations[continuation]}{rest[context]}"
        words = text.replace(".", " .").replace("?", " ?").replace(",", " ,").split()
        return Said(text=text, symbols=tuple(words), place=len(contexts[context]) + 1)

    return Quadruple(suite=suite, group=group, voice=voice, pairs=((said(0, 0), said(0, 1)), (said(1, 1), said(1, 0))))
