"""Voices of the embedded corpus: enough, all different, the test's own apart, none that does not repeat."""

from __future__ import annotations

from itertools import count, islice

from hypothesis import given
from hypothesis import strategies as st

from valle.corpora.espeak_voices import (
    ACCENTS,
    FEMALE_VARIANTS,
    MALE_VARIANTS,
    TEST_FEMALE_VARIANTS,
    TEST_MALE_VARIANTS,
    UNREPEATABLE_VARIANTS,
    held_out_voices,
    training_voice,
    training_voices,
)

TRAINING_VARIANTS = {*MALE_VARIANTS, *FEMALE_VARIANTS}
TEST_VARIANTS = {*TEST_MALE_VARIANTS, *TEST_FEMALE_VARIANTS}


def test_no_variant_is_among_those_that_do_not_repeat() -> None:
    assert not (TRAINING_VARIANTS | TEST_VARIANTS) & UNREPEATABLE_VARIANTS


def test_held_out_voices_use_variants_that_training_never_uses() -> None:
    assert not TRAINING_VARIANTS & TEST_VARIANTS
    assert {voice.variant for voice in held_out_voices(8, seed=0)} == TEST_VARIANTS


def test_the_first_sixty_four_voices_differ_in_variant_and_accent() -> None:
    voices = list(training_voices(64, seed=0))
    assert len({voice.espeak_name for voice in voices}) == 64
    assert {voice.accent for voice in voices} == set(ACCENTS)


def test_names_stay_unique_far_beyond_the_variants() -> None:
    voices = list(training_voices(2000, seed=0))
    assert len({voice.name for voice in voices}) == 2000
    assert len({(voice.espeak_name, voice.pitch, voice.pitch_range, voice.rate) for voice in voices}) == 2000


def test_two_of_five_voices_are_female() -> None:
    assert sum(voice.is_female for voice in training_voices(100, seed=0)) == 40


@given(st.integers(0, 500), st.integers(0, 1000))
def test_a_voice_does_not_depend_on_how_many_there_are(index: int, seed: int) -> None:
    assert next(islice(training_voices(index + 1, seed=seed), index, None)) == training_voice(index, seed=seed)


def test_another_seed_gives_the_same_variants_other_pitches() -> None:
    first, second = (list(training_voices(40, seed=seed)) for seed in (0, 1))
    assert [voice.name for voice in first] == [voice.name for voice in second]
    assert [voice.pitch for voice in first] != [voice.pitch for voice in second]


def test_voices_can_be_drawn_without_end() -> None:
    assert all(30 <= training_voice(index, seed=3).pitch <= 70 for index in islice(count(10_000), 20))
