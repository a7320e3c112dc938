"""Words that a model never heard in training: only what it learned of how words sound can tell them from non-words.

:data:`WITHHELD` are English words that no text of the embedded corpus says, by the symbol of the grammar whose words they are like.
:func:`withheld_words` are words of the grammar itself that a corpus was told not to say in training (``--withheld-words``), which
differ from the others in nothing but that.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from valle.corpora.espeak_discourse import COUNTABLE, PAST_OF
from valle.corpora.espeak_grammar import RULES

WITHHELD: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "ITEM": tuple(
        "pencil bracelet button tractor pepper tomato cushion saucer napkin scooter ribbon necklace kettle curtain "
        "trumpet wallet helmet barrel ladle biscuit pumpkin turnip walnut cherry turtle lizard hamster spider monkey "
        "donkey pigeon sparrow tiger leopard compass magnet marble puzzle poster razor pin fork bowl stool tray mask "
        "scarf belt glove sock boot brush broom spade axe drill nail screw pipe pot pan jug jar tin sack crate cart sled"
        .split()
    ),
    "PLACE": tuple(
        "cottage cellar meadow canyon glacier lagoon orchard vineyard stadium plaza gallery bakery brewery chapel "
        "cathedral monastery fortress cabin kennel stable barn shed attic balcony basement lobby corridor tunnel canal "
        "dock pier cliff cave swamp marsh pond creek hill dune ranch mill mine court bank shop inn pub gym zoo"
        .split()
    ),
    "ROLE": tuple(
        "plumber barber butcher tailor sculptor surgeon pilot banker grocer cobbler miner jockey actor dealer lecturer "
        "scientist president professor carpenter mechanic messenger merchant shepherd blacksmith gambler wizard "
        "princess monk nun priest judge chef maid clerk guard thief pirate nurse prince duke knight clown"
        .split()
    ),
    "QUALITY": tuple(
        "bitter bright clumsy crooked dusty fancy filthy fragile gentle glossy greasy hollow icy jagged lovely "
        "massive muddy noisy plastic rapid rigid rotten rusty salty shallow sharp shiny silent silky slippery smooth "
        "solid sour spicy steep sticky strong sturdy subtle sweet thick thin tiny tough ugly vivid weak wild"
        .split()
    ),
    "SAW": tuple(
        "admired adored attacked avoided blamed blessed broke burned chased chose compared copied crushed damaged "
        "defended delivered destroyed discovered divided enjoyed envied examined feared filled grabbed guarded hated "
        "ignored inspected invented kicked licked mended mentioned named packed planted pulled pushed raised repaired "
        "rescued respected ruined shook stretched studied tasted threw touched trusted visited weighed"
        .split()
    ),
})  # fmt: skip


@cache
def withheld_words(share: float, *, seed: int) -> frozenset[str]:
    """About a ``share`` of the things, places, roles, qualities and verbs, in every form that the grammar has; none at 0."""
    rng = random.Random(f"{seed} withheld words")
    chosen = {word for name in WITHHELD for word in RULES[name] if rng.random() < share}
    forms = {form for one, many in (*COUNTABLE, *PAST_OF.items()) for form in (one, many) if chosen & {one, many}}
    return frozenset(chosen | forms)
