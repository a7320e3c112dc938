"""The active level of speech, and the gain that brings it to one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_audio import sound

from valle.measures.level import GAIN_LIMIT_DB, TARGET_DB, LevelHold, LiveGain, active_level, hold_level, speech_gain_db, with_gain

RATE = 16000


def level(wav: np.ndarray) -> float:
    found = active_level(wav.astype(np.float32), RATE)
    assert found is not None
    return found


def test_a_sine_of_full_scale_is_at_minus_three_db() -> None:
    assert level(np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)) == pytest.approx(-3.01, abs=0.01)


@settings(deadline=None, max_examples=25)
@given(db=st.floats(-60, 10), seconds=st.floats(0.3, 4), seed=st.integers(0, 50))
def test_a_factor_changes_the_level_by_itself_and_the_gain_undoes_it(db: float, seconds: float, seed: int) -> None:
    wav = sound(seconds, seed=seed)
    changed = (wav * 10 ** (db / 20)).astype(np.float32)
    assert level(changed) - level(wav) == pytest.approx(db, abs=1e-3)
    one, two = (with_gain(row, speech_gain_db(row, RATE)) for row in (wav, changed))
    assert np.allclose(one, two, rtol=1e-5, atol=1e-7) and level(two) == pytest.approx(TARGET_DB, abs=1e-3)


@pytest.mark.parametrize("pause", [0.5, 2.0, 8.0])
def test_pauses_do_not_make_a_speaker_quieter(pause: float) -> None:
    wav, silence = sound(2), 1e-4 * np.random.default_rng(0).standard_normal(round(pause * RATE)).astype(np.float32)
    assert level(np.concatenate([silence, wav, silence, wav])) == pytest.approx(level(wav), abs=0.3)


def test_a_click_is_not_taken_for_the_speaker() -> None:
    wav = sound(3)
    wav[RATE : RATE + 8] = 1.0
    assert level(wav) == pytest.approx(level(sound(3)), abs=0.5)


def test_a_constant_is_no_sound() -> None:
    assert level(sound(2) + 0.3) == pytest.approx(level(sound(2)), abs=0.3)
    assert active_level(np.full(RATE, 0.5, np.float32), RATE) is None


def test_silence_and_next_to_nothing_get_no_gain_or_the_most() -> None:
    assert speech_gain_db(np.zeros(RATE, np.float32), RATE) == 0.0
    assert speech_gain_db(np.zeros(0, np.float32), RATE) == 0.0
    assert speech_gain_db((1e-7 * sound(1)).astype(np.float32), RATE) == GAIN_LIMIT_DB


@pytest.mark.parametrize("off_db", [-7.0, -5.0, 0.0, 5.0, 7.0])
def test_a_drifting_level_is_held_by_what_was_heard_before(off_db: float) -> None:
    wav = sound(5)
    drifted = with_gain(wav, off_db)
    held = hold_level(drifted, RATE, level(wav))
    assert abs(level(held) - level(wav)) <= 3.01
    assert np.array_equal(held[: RATE // 2], drifted[: RATE // 2])
    assert off_db or abs(level(held) - level(wav)) < 0.5  # what is at the level is next to left alone
    shorter = hold_level(drifted[: 3 * RATE], RATE, level(wav))
    assert np.array_equal(held[: 3 * RATE], shorter)


@pytest.mark.parametrize("size", [160, 1600, 7001])
def test_a_live_gain_is_that_of_the_sound_however_it_comes_in_pieces(size: int) -> None:
    room = 1e-4 * np.random.default_rng(1).standard_normal(2 * RATE).astype(np.float32)
    wav = np.concatenate([room, 0.01 * sound(4)]).astype(np.float32)
    live = LiveGain(RATE)
    gains = [live.hear(wav[first : first + size]) for first in range(0, len(wav), size)]
    fixed = next(place for place, gain in enumerate(gains) if gain is not None)
    assert 2.9 * RATE <= (fixed + 1) * size <= 3.8 * RATE + size  # the room's noise decided nothing
    assert set(gains[fixed:]) == {live.gain_db}
    assert live.gain_db == pytest.approx(speech_gain_db(wav, RATE), abs=1.5)
    whole = LiveGain(RATE)
    whole.hear(wav)
    assert whole.gain_db == live.gain_db


def held_at_once(wav: np.ndarray, level_db: float) -> np.ndarray:
    """The slow twin: the level of all that was heard, from the beginning every time."""
    gains, size = [0.0, 0.0], RATE // 2
    for end in range(size, len(wav), size):
        now = active_level(wav[:end], RATE)
        gains.append(0.0 if now is None else float(np.clip(level_db - now, -6, 6)))
    return wav * 10 ** (np.interp(np.arange(len(wav)), size * np.arange(len(gains)), gains) / 20)


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 20000), min_size=1, max_size=12), off_db=st.floats(-8, 8))
def test_a_level_is_held_the_same_in_pieces_as_at_once(sizes: list[int], off_db: float) -> None:
    wav = with_gain(sound(3), off_db)
    hold, pieces, rest = LevelHold(RATE, -24.0), [], wav
    for size in sizes:
        pieces.append(hold.next(rest[:size]))
        rest = rest[size:]
    held = np.concatenate([*pieces, hold.next(rest)])
    assert np.array_equal(held, hold_level(wav, RATE, -24.0))
    assert np.allclose(held, held_at_once(wav, -24.0), atol=1e-6)


def test_holding_a_level_for_long_keeps_a_minute() -> None:
    hold = LevelHold(RATE, -24.0)
    for _ in range(40):
        hold.next(sound(2))
    assert len(hold._powers) == 3000
