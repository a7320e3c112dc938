"""syn-SALMon: is the second half of a recording by the same voice, in the same room, before the same background as the first?

After SALMon (Maimon, Roth and Adi 2024).  Two versions of one sentence, such as by two voices, are cut before the same word; a right
recording is both halves of one version, a wrong one the first half of one and the second of the other.  Every half stands once on
either side, and all recordings are joined in the same way, over a short pause.  For ``contour``, a question and a statement are said
with the melody of either.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from valle.corpora.espeak_discourse import PAST_OF, one_of, with_articles
from valle.corpora.espeak_grammar import RULES, draw_sentence, part_of
from valle.corpora.espeak_synthesiser import SAMPLE_RATE, TARGET_RMS, EspeakSynthesiser
from valle.corpora.espeak_voices import Voice, training_voice

Samples = NDArray[np.float32]
CONSISTENCY = ("voice", "gender", "rate", "pitch", "room", "background")
GROUPS = (*CONSISTENCY, "contour")
PAUSE_SECONDS, FADE_SECONDS = 0.06, 0.01
RATES, PITCHES, REVERBERATION = (135, 215), (25, 75), (0.15, 0.9)  # words a minute, eSpeak's 0..100, seconds until -60 dB
SIGNAL_TO_NOISE_DB = 15.0
LEAST_WORDS, MOST_WORDS = 7, 14


@dataclass(frozen=True)
class Version:
    """One way in which the sentence of an item is heard."""

    voice: Voice
    room: float = 0.0  # seconds of reverberation, 0 for none
    background: str = ""  # of :data:`BACKGROUNDS`


@dataclass(frozen=True)
class Heard:
    """A recording of an item, and where its second half begins, in seconds."""

    samples: Samples
    prompt_seconds: float


def draw_versions(rng: random.Random, group: str, number: int, *, num_voices: int, seed: int) -> tuple[Version, Version]:
    """Two versions that differ in what ``group`` names and in nothing else."""
    voice = training_voice(number % num_voices, seed=seed)
    others = [training_voice(index, seed=seed) for index in range(num_voices)]
    if group in ("voice", "gender"):
        fit = [other for other in others if other.name != voice.name and (other.is_female == voice.is_female) == (group == "voice")]
        return Version(voice), Version(one_of(rng, fit))
    if group == "rate":
        return Version(replace(voice, rate=RATES[0])), Version(replace(voice, rate=RATES[1]))
    if group == "pitch":
        return Version(replace(voice, pitch=PITCHES[0])), Version(replace(voice, pitch=PITCHES[1]))
    if group == "room":
        return Version(voice, room=REVERBERATION[0]), Version(voice, room=REVERBERATION[1])
    one = one_of(rng, tuple(BACKGROUNDS))
    other = one_of(rng, [name for name in BACKGROUNDS if name != one])
    return Version(voice, background=one), Version(voice, background=other)


def draw_statement(rng: random.Random) -> str:
    """A statement of the test part that is neither short nor long."""
    while True:
        sentence = draw_sentence(rng)
        if part_of(sentence) == "test" and sentence.endswith(".") and LEAST_WORDS <= len(sentence.split()) <= MOST_WORDS:
            return sentence


def draw_wordings(rng: random.Random) -> tuple[str, str]:
    """A question and a statement of the same words but for the verb, without their marks."""
    see = one_of(rng, tuple(PAST_OF))
    person = one_of(rng, (one_of(rng, RULES["NAME"]), f"the {one_of(rng, RULES['AGE'])} {one_of(rng, RULES['ROLE'])}"))
    rest = f"the {one_of(rng, RULES['ITEM'])} {one_of(rng, RULES['NEAR'])} the {one_of(rng, RULES['PLACE'])}"
    return with_articles(f"did {person} {see} {rest}"), with_articles(f"{person} {PAST_OF[see]} {rest}")


def speak_consistency(
    synthesiser: EspeakSynthesiser, rng: random.Random, versions: tuple[Version, Version]
) -> tuple[str, list[tuple[Heard, Heard]]] | None:
    """The sentence and the two pairs ``(right, wrong)``; None where eSpeak does not time the word at which it would be cut."""
    sentence = draw_statement(rng)
    words = [place for place in range(len(sentence)) if place == 0 or sentence[place - 1] == " "]
    place = words[len(words) // 2]
    halves = []
    for version in versions:
        speech = synthesiser.speak(sentence, version.voice)
        if place not in speech.starts:
            return None
        wav = _in_room(speech.samples.astype(np.float32) / np.float32(32768), version.room, rng)
        cut = round(speech.starts[place] * SAMPLE_RATE)
        halves.append((_levelled(wav[:cut]), _levelled(wav[cut:])))
    heard = [
        [_joined(halves[first][0], halves[second][1], versions[first], versions[second], rng) for second in (0, 1)] for first in (0, 1)
    ]
    return sentence, [(heard[0][0], heard[0][1]), (heard[1][1], heard[1][0])]


def _joined(first: Samples, second: Samples, one: Version, other: Version, rng: random.Random) -> Heard:
    """Two halves with a pause between, each before its own background."""
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    before, after = np.concatenate([_faded(first), pause]), _faded(second)
    halves = [wav + _noise(version.background, len(wav), rng) for wav, version in ((before, one), (after, other))]
    return Heard(np.concatenate(halves).clip(-1, 1), len(before) / SAMPLE_RATE)


def _faded(wav: Samples) -> Samples:
    """Without a click at either end."""
    length = min(round(FADE_SECONDS * SAMPLE_RATE), len(wav))
    ramp = np.linspace(0, 1, length, dtype=np.float32)
    wav = wav.copy()
    wav[:length] *= ramp
    wav[len(wav) - length :] *= ramp[::-1]
    return wav


def _levelled(wav: Samples) -> Samples:
    power = float(np.sqrt(np.mean(np.square(wav, dtype=np.float64)))) if len(wav) else 0.0
    return wav * np.float32(TARGET_RMS / max(power, 1e-6))


def _in_room(wav: Samples, seconds: float, rng: random.Random) -> Samples:
    """``wav`` through noise that decays by 60 dB in ``seconds``, behind the direct sound (Moorer 1979); as long as it was."""
    if seconds == 0:
        return wav
    generator = np.random.default_rng(int(rng.random() * 2**32))
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    response = generator.standard_normal(len(time)) * np.exp(-6.9 * time / seconds)
    response *= 1.0 / np.sqrt(np.square(response).sum())  # as much reflected power as direct
    response[0] += 1.0
    return _convolved(wav, response).astype(np.float32)


def _convolved(wav: NDArray, response: NDArray) -> NDArray[np.float64]:
    """``wav (T,)`` through ``response``, as long as it was."""
    size = len(wav) + len(response)
    convolved: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(wav, size) * np.fft.rfft(response, size), size)[: len(wav)]
    return convolved


def _noise(name: str, length: int, rng: random.Random) -> Samples:
    if not name:
        return np.zeros(length, np.float32)
    generator = np.random.default_rng(int(rng.random() * 2**32))
    wav = BACKGROUNDS[name](generator, length)
    level = TARGET_RMS * 10 ** (-SIGNAL_TO_NOISE_DB / 20)
    scaled: Samples = (wav * (level / np.sqrt(np.mean(np.square(wav)) + 1e-12))).astype(np.float32)
    return scaled


def _hiss(generator: np.random.Generator, length: int) -> NDArray[np.float64]:
    """White noise."""
    return generator.standard_normal(length)


def _rumble(generator: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Noise whose power falls with the square of frequency, as in a car."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    return np.fft.irfft(spectrum / np.maximum(frequency, 40.0), length)


def _hum(generator: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Harmonics of the mains, of 50 Hz, with a random phase each."""
    time = np.arange(length) / SAMPLE_RATE
    return np.sum([np.sin(2 * np.pi * (50 * k * time + generator.random())) / k for k in range(1, 20)], axis=0)


def _clicks(generator: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Short bursts, ten a second, as of rain on a roof, over a little noise."""
    bursts = np.zeros(length)
    places = generator.integers(0, length, max(1, round(10 * length / SAMPLE_RATE)))
    bursts[places] = 1.0
    decay = np.exp(-np.arange(160) / 40) * generator.standard_normal(160)
    return _convolved(bursts, decay) + 0.01 * generator.standard_normal(length)


BACKGROUNDS: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "hiss": _hiss, "rumble": _rumble, "hum": _hum, "clicks": _clicks,
}  # fmt: skip
