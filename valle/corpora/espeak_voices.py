"""Voices of the embedded corpus: an eSpeak NG variant, an accent, and a pitch, range and rate of their own.

Most variants sound different depending on what was spoken before, which a process forked for each utterance
cures (:mod:`valle.corpora.espeak_helper`); nine do not repeat even so and are left out, with those that
are robots, whispers or echoes.  Variants of the test's own voices are never used in training.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-us-nyc",
    "en-gb-x-gbclan",
    "en-029",
    "en-gb-x-gbcwmd",
)

UNREPEATABLE_VARIANTS = frozenset("Alicia Demonic f2 f3 f5 sandro victor whisper whisperf".split())

MALE_VARIANTS = tuple(
    "m3 Alex m7 david Gene2 ian m1 Denis adam boris m8 Marco paul m2 Reed Hugo norbert ed m6 benjamin Andy antonio "
    "m5 klatt4 robert travis Mario mike2 kaukovalta john edward Henrique grandpa max Lee pedro miguel iven3 marcelo "
    "Jacky AnxiousAndy klatt5 michel gustave Tweaky edward2 Diogo pablo Michael klatt6".split()
)
FEMALE_VARIANTS = tuple("f1 linda Andrea steph aunty grandma belinda steph3".split())
TEST_MALE_VARIANTS = ("m4", "quincy", "klatt3", "Mike", "rob")
TEST_FEMALE_VARIANTS = ("f4", "Annie", "anika")

GENDER_PATTERN = (False, True, False, True, False)  # is voice i of five female?


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One speaker.  ``pitch`` and ``pitch_range`` are eSpeak's 0..100, ``rate`` words a minute."""

    name: str
    accent: str
    variant: str
    is_female: bool
    pitch: int
    pitch_range: int
    rate: int

    @property
    def espeak_name(self) -> str:
        """What ``espeak_SetVoiceByName`` is given."""
        return f"{self.accent}+{self.variant}"

    @property
    def settings(self) -> dict[str, Any]:
        """What eSpeak NG is told."""
        return {name: getattr(self, name) for name in ("accent", "variant", "pitch", "pitch_range", "rate")}


def training_voice(index: int, *, seed: int) -> Voice:
    """Training voice ``index``, the same whatever the number of voices."""
    return _voice("train", index, MALE_VARIANTS, FEMALE_VARIANTS, seed=seed)


def held_out_voice(index: int, *, seed: int) -> Voice:
    """Voice ``index`` of those that only the test part has."""
    return _voice("test", index, TEST_MALE_VARIANTS, TEST_FEMALE_VARIANTS, seed=seed)


def training_voices(num_voices: int, *, seed: int) -> Iterator[Voice]:
    return (training_voice(index, seed=seed) for index in range(num_voices))


def held_out_voices(num_voices: int, *, seed: int) -> Iterator[Voice]:
    return (held_out_voice(index, seed=seed) for index in range(num_voices))


def _voice(kind: str, index: int, males: tuple[str, ...], females: tuple[str, ...], *, seed: int) -> Voice:
    """Run through the variants, each round with other accents; pitch, range and rate are drawn for each voice."""
    cycle, position = divmod(index, len(GENDER_PATTERN))
    is_female = GENDER_PATTERN[position]
    rank = cycle * GENDER_PATTERN.count(is_female) + GENDER_PATTERN[:position].count(is_female)
    variants = females if is_female else males
    round_, place = divmod(rank, len(variants))
    accent = ACCENTS[(3 * place + 5 * round_ + (4 if is_female else 0)) % len(ACCENTS)]
    rng = random.Random(f"{seed} {kind} voice {index}")
    return Voice(
        name=f"{kind}-{index:03d}-{accent}-{variants[place]}",
        accent=accent,
        variant=variants[place],
        is_female=is_female,
        pitch=_between(rng, 30, 70),
        pitch_range=_between(rng, 30, 70),
        rate=_between(rng, 145, 195),
    )


def _between(rng: random.Random, low: int, high: int) -> int:
    """A whole number in ``low..high``, both included."""
    return low + int(rng.random() * (high - low + 1))
