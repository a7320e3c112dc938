"""Voices of egs/synthetic: held-out ones are nobody's in train, shares hold, and effects do what their names say."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.corpora.speech import SAMPLE_RATE
from valle.corpora.speech_config import CorpusConfigError
from valle.corpora.synthetic.effects import TARGET_RMS, add_noise, apply_voice, equalise, reverberate, warp_formants
from valle.corpora.synthetic.registry import parse_shares, take_turns
from valle.corpora.synthetic.synthesiser import BaseVoice, Sound, share_out
from valle.corpora.synthetic.voices import FORMANTS, PITCHES, SyntheticVoice, VoiceSettings, make_voice

PITCH = 125.0  # Hz, of the test's buzz


class OneVoice:
    """A synthesiser with a single base voice, which nothing here lets speak."""

    name = "one"
    has_speed = True
    is_multiplied = True

    def base_voice(self, index: int, *, is_held_out: bool, seed: int) -> BaseVoice:
        return BaseVoice(name="only")

    def fingerprint(self) -> dict[str, object]:
        return {}

    def open(self) -> Sound:  # type: ignore[override]
        raise AssertionError


def voices(count: int, *, is_held_out: bool, seed: int = 42) -> list[SyntheticVoice]:
    return [
        make_voice(index, is_held_out=is_held_out, synthesisers={"one": OneVoice()}, shares={"one": 1.0}, seed=seed)  # type: ignore[dict-item]
        for index in range(count)
    ]


def buzz(seconds: float = 1.0, *, resonance: float = 1000.0) -> np.ndarray:
    """Harmonics of ``PITCH`` under one resonance: a vowel with a single formant."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = PITCH * np.arange(1, 40)
    levels = np.exp(-0.5 * ((harmonics - resonance) / 250) ** 2) + 0.003
    return (0.1 * np.sum(levels[:, None] * np.cos(2 * np.pi * harmonics[:, None] * time), axis=0)).astype(np.float32)


def spectrum(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), np.abs(np.fft.rfft(samples * np.hanning(len(samples))))


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def test_held_out_voices_lie_where_no_training_voice_does() -> None:
    """Cells of pitch and formants have margins, so two voices of different kinds differ by a margin in one of them at least."""
    train, test = (
        np.array([[np.log(v.settings.pitch), np.log(v.settings.formants / v.settings.pitch)] for v in voices(count, is_held_out=kind)])
        for count, kind in ((200, False), (40, True))
    )
    spans = np.log([PITCHES[1] / PITCHES[0], FORMANTS[1] / FORMANTS[0]]) / [10, 6]
    apart = np.abs(train[:, None] - test[None]) / spans  # (training voices, held-out voices, 2), in cells
    assert (apart.max(axis=2) > 0.19).all()


def test_a_voice_does_not_depend_on_how_many_there_are_and_no_two_are_equal() -> None:
    many = voices(100, is_held_out=False)
    assert many[:10] == voices(10, is_held_out=False)
    assert len({voice.settings for voice in many}) == 100
    assert many[:10] != voices(10, is_held_out=False, seed=43)


def test_a_voice_reads_back_equal_from_json() -> None:
    for voice in voices(5, is_held_out=True):
        assert SyntheticVoice.from_dict(json.loads(json.dumps(asdict(voice)))) == voice


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.05, 5), min_size=1), st.integers(1, 120))
def test_every_beginning_of_the_voices_has_each_share_within_one_voice(weights: dict[str, float], count: int) -> None:
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    turns = [take_turns(shares, index) for index in range(count)]
    for name, its_share in shares.items():
        ranks = [rank for who, rank in turns if who == name]
        assert ranks == list(range(len(ranks)))
        assert abs(len(ranks) - its_share * count) < len(shares)


def test_shares_are_equal_or_as_given() -> None:
    assert parse_shares("espeak, hibari") == {"espeak": 0.5, "hibari": 0.5}
    assert parse_shares("espeak=1,hibari=3") == {"espeak": 0.25, "hibari": 0.75}


@pytest.mark.parametrize("text", ["", "festival", "espeak=0", "espeak=x", "espeak=inf", ",", "espeak=-1"])
def test_shares_that_mean_nothing_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(CorpusConfigError, match=r"expected .*found"):
        parse_shares(text)


def test_of_six_names_or_more_one_in_six_is_held_out() -> None:
    names = [f"voice{number}" for number in range(12)]
    train, test = (share_out(names, is_held_out=kind) for kind in (False, True))
    assert len(test) == 2 and sorted(train + test) == sorted(names)
    assert share_out(names[:5], is_held_out=True) == share_out(names[:5], is_held_out=False) == names[:5]


def test_pitch_alone_moves_harmonics_and_formants_alone_move_the_envelope() -> None:
    settings = VoiceSettings(pitch=0.88, formants=1.0)  # as far apart as in any voice
    frequencies, magnitudes = spectrum(apply_voice(buzz(), SAMPLE_RATE, settings, room_seed="r", noise_seed="n"))
    strongest = frequencies[magnitudes.argmax()]
    distance = strongest % 110  # from a harmonic of 0.88 x 125 Hz
    assert min(distance, 110 - distance) < 2
    centre = (frequencies * magnitudes**2).sum() / (magnitudes**2).sum()
    assert centre == pytest.approx(1000, rel=0.06)

    moved = warp_formants(buzz(), 1.15)
    frequencies, magnitudes = spectrum(moved)
    assert frequencies[magnitudes.argmax()] % PITCH == pytest.approx(0, abs=2)
    assert (frequencies * magnitudes**2).sum() / (magnitudes**2).sum() == pytest.approx(1150, rel=0.06)


def test_tempo_is_undone_by_the_speed_that_the_synthesiser_is_asked_for() -> None:
    for pitch in (0.8, 1.2):
        settings = VoiceSettings(pitch=pitch, formants=pitch)
        heard = apply_voice(buzz(2.0), SAMPLE_RATE, settings, room_seed="r", noise_seed="n")
        assert len(heard) == pytest.approx(2.0 * SAMPLE_RATE / pitch, abs=2)


def test_a_warp_of_nothing_and_flat_gains_leave_sound_as_it_is() -> None:
    assert warp_formants(buzz(), 1.0) is not None and np.array_equal(warp_formants(buzz(), 1.001), buzz())
    assert np.allclose(equalise(buzz(), tilt=0.0, bands=()), buzz(), atol=1e-5)


def test_the_tilt_is_in_decibels_an_octave() -> None:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    ratio = spectrum(equalise(noise, tilt=-3.0, bands=()))[1] / spectrum(noise)[1]
    at = {frequency: 20 * np.log10(np.median(ratio[frequency - 40 : frequency + 40])) for frequency in (500, 1000, 4000)}
    assert at[1000] == pytest.approx(0, abs=0.3) and at[500] == pytest.approx(3, abs=0.5) and at[4000] == pytest.approx(-6, abs=0.5)


def test_rooms_and_noise_have_their_levels() -> None:
    click = np.zeros(SAMPLE_RATE, dtype=np.float32)
    click[100] = 1.0
    room = reverberate(click, seconds=0.3, level=-10.0, seed="room")
    assert room[:100].max() < 1e-6 and room[100] == pytest.approx(1.0, abs=1e-3)
    assert 10 * np.log10(np.sum(np.square(room[101:], dtype=np.float64))) == pytest.approx(-10, abs=0.2)
    assert np.array_equal(room, reverberate(click, seconds=0.3, level=-10.0, seed="room"))
    noisy = add_noise(buzz(), level=-20.0, seed="noise")
    assert level_db(noisy - buzz()) - level_db(buzz()) == pytest.approx(-20, abs=0.2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 19), st.booleans())
def test_every_voice_speaks_at_one_level_and_never_clips(index: int, is_held_out: bool) -> None:
    voice = voices(20, is_held_out=is_held_out)[index]
    heard = apply_voice(buzz(0.3), SAMPLE_RATE, voice.settings, room_seed="r", noise_seed="n")
    assert heard.dtype == np.float32 and np.isfinite(heard).all() and np.abs(heard).max() <= 0.981
    assert level_db(heard) <= 20 * np.log10(TARGET_RMS) + 0.1
