"""eSpeak NG behind the helper process: repeatable voices that differ, true times, loud errors."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from valle.corpora.espeak_grammar import lexicon, words_of
from valle.corpora.espeak_synthesiser import (
    CALIBRATION_TEXT,
    SAMPLE_RATE,
    TARGET_RMS,
    EspeakSynthesiser,
    SynthesisError,
)
from valle.corpora.espeak_voices import Voice, held_out_voices, training_voice, training_voices

TEXT = "The old king sold seven red apples. Did Anna forget the ticket behind the tower?"
VOICES = [*training_voices(64, seed=0), *held_out_voices(8, seed=0)]


@pytest.fixture(scope="module")
def synthesiser() -> Iterator[EspeakSynthesiser]:
    with EspeakSynthesiser() as opened:
        yield opened


def digest(synthesiser: EspeakSynthesiser, voice: Voice, text: str = TEXT) -> str:
    return hashlib.sha256(synthesiser.speak(text, voice).samples.tobytes()).hexdigest()


def test_every_voice_sounds_like_no_other_even_at_equal_pitch_and_rate(synthesiser: EspeakSynthesiser) -> None:
    """A wrong voice name speaks with the voice before, an unknown variant without it: then two would be equal."""
    level = [replace(voice, pitch=50, pitch_range=50, rate=170) for voice in VOICES]
    assert len({digest(synthesiser, voice) for voice in level}) == len(VOICES)


def test_every_voice_repeats_whatever_was_spoken_before(synthesiser: EspeakSynthesiser) -> None:
    """Most variants depend on what was spoken before, unless each utterance has a process of its own."""
    before = [digest(synthesiser, voice) for voice in VOICES]
    with EspeakSynthesiser() as another:
        after = [digest(another, voice) for voice in reversed(VOICES)]
    assert before == after[::-1]


def test_words_and_phones_are_timed_within_the_audio_in_order(synthesiser: EspeakSynthesiser) -> None:
    for voice in VOICES:
        speech = synthesiser.speak(TEXT, voice)
        assert [word.symbol for word in speech.words] == words_of(TEXT)
        for spans in (speech.words, speech.phones):
            assert spans[0].start >= 0
            assert spans[-1].start + spans[-1].duration <= speech.seconds + 1e-3
            assert all(b.start >= a.start + a.duration - 2e-4 for a, b in itertools.pairwise(spans))
            assert all(span.duration > 0 for span in spans)


def test_every_phone_lies_within_one_word(synthesiser: EspeakSynthesiser) -> None:
    speech = synthesiser.speak(TEXT, VOICES[0])
    for phone in speech.phones:
        middle = phone.start + phone.duration / 2
        assert sum(word.start <= middle <= word.start + word.duration for word in speech.words) == 1


def test_phones_carry_no_stress_and_name_no_pause(synthesiser: EspeakSynthesiser) -> None:
    symbols = {phone.symbol for voice in VOICES for phone in synthesiser.speak(TEXT, voice).phones}
    assert {"k", "n", "s"} <= symbols
    assert not any(set(symbol) & set("ˈˌ:_ ") or not symbol for symbol in symbols)


def test_sound_is_where_the_times_say(synthesiser: EspeakSynthesiser) -> None:
    """Between two sentences is silence, in the vowels is none."""
    for voice in VOICES[:10]:
        speech = synthesiser.speak(TEXT, voice)
        energy = np.square(speech.samples / 32768.0)
        apples, did = (next(w for w in speech.words if w.symbol == symbol) for symbol in ("apples", "did"))
        pause = energy[round((apples.start + apples.duration + 0.12) * SAMPLE_RATE) : round((did.start - 0.02) * SAMPLE_RATE)]
        vowels = [phone for phone in speech.phones if phone.symbol[0] in "aeiouɛɪʌɑɔæ" and phone.duration > 0.06]
        loudness = [energy[round(v.start * SAMPLE_RATE) : round((v.start + v.duration) * SAMPLE_RATE)].mean() for v in vowels]
        assert len(pause) > 0.1 * SAMPLE_RATE
        assert pause.mean() < 0.03 * min(loudness)


def test_every_word_of_the_lexicon_is_timed(synthesiser: EspeakSynthesiser) -> None:
    words = sorted(lexicon())
    for start in range(0, len(words), 12):
        chunk = words[start : start + 12]
        text = ", ".join(chunk) + "."
        assert [word.symbol for word in synthesiser.speak(text, VOICES[1]).words] == chunk


def test_voices_are_equally_loud_and_do_not_clip(synthesiser: EspeakSynthesiser) -> None:
    for voice in VOICES:
        samples = synthesiser.speak(CALIBRATION_TEXT, voice).samples / 32768.0
        assert np.sqrt(np.mean(np.square(samples))) == pytest.approx(TARGET_RMS, rel=0.03)
        assert np.mean(np.abs(samples) > 0.99) < 1e-4


def test_pitch_range_and_rate_are_heard(synthesiser: EspeakSynthesiser) -> None:
    voice = training_voice(0, seed=0)
    changes = [replace(voice, pitch=voice.pitch + 1), replace(voice, pitch_range=voice.pitch_range + 5)]
    assert len({digest(synthesiser, other) for other in [voice, *changes]}) == 3
    slow, fast = (synthesiser.speak(TEXT, replace(voice, rate=rate)).seconds for rate in (145, 195))
    assert slow > 1.2 * fast


def test_an_unknown_voice_is_an_error_and_the_next_utterance_is_not(synthesiser: EspeakSynthesiser) -> None:
    voice = training_voice(0, seed=0)
    expected = digest(synthesiser, voice)
    with pytest.raises(SynthesisError, match="returned"):
        synthesiser.speak(TEXT, replace(voice, accent="en-xx-nowhere"))
    with pytest.raises(SynthesisError, match="en-gb"):  # returns 2 and would speak with the voice before
        synthesiser.speak(TEXT, replace(voice, accent="en-gb"))
    assert digest(synthesiser, voice) == expected


def test_an_unknown_variant_is_an_error(synthesiser: EspeakSynthesiser) -> None:
    with pytest.raises(SynthesisError, match="no variant 'nobody'"):
        synthesiser.speak(TEXT, replace(training_voice(0, seed=0), variant="nobody"))


def test_the_helper_stays_small() -> None:
    """A fork costs what the process holds."""
    program = "import sys, valle.corpora.espeak_helper; print([m for m in ('numpy', 'torch', 'lhotse') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == "[]"
