"""One dialogue of two voices on two channels: its settings, its turns in time, and its line in the index.

A dialogue is a function of (settings, part, number).  Turns follow each other with gaps, some begin before the one before has ended,
some are followed by silence, and now and then the listener says a word while the other goes on (back-channel).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal, Self

import numpy as np

from valle.corpora.dialogue_script import BACK_CHANNELS, SCRIPT, Exchange, draw_exchange
from valle.corpora.espeak_discourse import one_of
from valle.corpora.espeak_grammar import grammar_version
from valle.corpora.espeak_synthesiser import Speaker
from valle.corpora.espeak_text_utterance import timed_words
from valle.corpora.espeak_voices import Voice, held_out_voice, training_voice
from valle.corpora.speech import SAMPLE_RATE, Span, Speech
from valle.corpora.speech_config import CorpusConfigError, CorpusSize
from valle.corpora.speech_utterance import identifier_of, whose_turn

GENERATOR_VERSION = 1  # raise it with every change of the code that changes the audio, the texts or the index
NUM_CHANNELS = 2
MOST_EXCHANGES = 5
LEAD, TAIL = 0.2, 0.3  # seconds before the first turn and after the last
BEFORE, AFTER = 0.02, 0.05  # seconds of a turn's sound that are kept around its words
ANSWER_GAP, NEXT_GAP, SILENCE = (0.1, 0.6), (0.2, 0.8), (1.0, 2.0)  # seconds from one turn's end to the next one's start
OVERLAP = (0.08, 0.35)  # seconds by which an answer begins too early
LONG_TURN = 1.8  # seconds of a turn in which there is room for a back-channel

TurnKind = Literal["question", "answer", "back-channel"]


@dataclass(frozen=True, kw_only=True)
class EspeakDialogueConfig(CorpusSize):
    """What to synthesise; hours are of dialogues, whose two channels are as long.  Shares are of the turns that could be so."""

    num_hours: float = 4.0
    max_seconds: float = 30.0
    overlap_share: float = 0.2
    silence_share: float = 0.2
    back_channel_share: float = 0.3
    seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_voices", "num_test_voices"):
            if getattr(self, name) < NUM_CHANNELS:
                flag = "--" + name.replace("_", "-")
                raise CorpusConfigError(f"{flag} must be at least 2, as many as a dialogue has, found {getattr(self, name)}; raise it")
        if not 15 <= self.max_seconds <= 120:
            raise CorpusConfigError(
                f"--max-seconds must lie within 15..120, found {self.max_seconds:g}; an exchange takes up to about 10"
            )
        for name in ("overlap_share", "silence_share", "back_channel_share"):
            if not 0 <= getattr(self, name) <= 1:
                flag = "--" + name.replace("_", "-")
                raise CorpusConfigError(f"{flag} must be a share from 0 to 1, found {getattr(self, name):g}; change it")

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the corpus's bytes; a change of any entry regenerates it."""
        script = hashlib.blake2b(repr((SCRIPT, BACK_CHANNELS)).encode(), digest_size=8).hexdigest()
        return {
            **asdict(self), "generator_version": GENERATOR_VERSION, "grammar": grammar_version(), "script": script,
            "espeakng_loader": version("espeakng-loader"),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one voice says without a pause; times are seconds from the dialogue's start."""

    channel: int
    kind: TurnKind
    rule: str  # of the script; empty for a back-channel
    text: str
    start: float
    duration: float
    words: tuple[Span, ...]
    phones: tuple[Span, ...]

    @property
    def end(self) -> float:
        return self.start + self.duration


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """What the index says of one stereo file; ``path`` is relative to the corpus's folder.  Turns stand by their start."""

    id: str
    part: str
    path: str
    num_samples: int
    voices: tuple[Voice, Voice]  # by channel
    voices_are_in_train: bool
    turns: tuple[Turn, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types; spans are ``[symbol, start, duration]`` in seconds."""
        values = asdict(self)
        for turn, own in zip(values["turns"], self.turns, strict=True):
            for name in ("words", "phones"):
                turn[name] = [[span.symbol, span.start, span.duration] for span in getattr(own, name)]
        return values

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The dialogue of which ``fields`` were written."""
        turns = tuple(
            Turn(**{**turn, **{name: tuple(Span(symbol=s, start=t, duration=d) for s, t, d in turn[name]) for name in ("words", "phones")}})
            for turn in fields["turns"]
        )
        first, second = (Voice(**voice) for voice in fields["voices"])
        return cls(**{**fields, "voices": (first, second), "turns": turns})


def speak_dialogue(config: EspeakDialogueConfig, *, part: str, number: int, speaker: Speaker) -> tuple[Dialogue, Speech]:
    """Dialogue ``number`` of ``part`` and its sound, ``samples (T, 2)``."""
    voices, is_in_train = voices_of(config, part=part, number=number)
    stage = _Stage(config, random.Random(f"{config.seed} {part} dialogue {number}"), voices, speaker)
    for exchange in _exchanges(stage.rng, part=part):
        if not stage.has_room_for(exchange):
            break
    turns = tuple(sorted(stage.turns, key=lambda turn: turn.start))
    samples = stage.mixed()
    identifier = identifier_of(part, number)
    dialogue = Dialogue(
        id=identifier, part=part, path=f"audio/{part}/{voices[0].name}+{voices[1].name}/{identifier}.wav", num_samples=len(samples),
        voices=voices, voices_are_in_train=is_in_train, turns=turns,
    )  # fmt: skip
    return dialogue, Speech(samples=samples)


def voices_of(config: EspeakDialogueConfig, *, part: str, number: int) -> tuple[tuple[Voice, Voice], bool]:
    """Two different voices, both of train or neither: the first take turns, the second is drawn; in test both kinds alternate."""
    index, is_in_train = whose_turn(config, part=part, number=number)
    count, make = (config.num_voices, training_voice) if is_in_train else (config.num_test_voices, held_out_voice)
    chance = random.Random(f"{config.seed} {part} second voice {number}").random()
    other = (index + 1 + int(chance * (count - 1))) % count
    return (make(index, seed=config.seed), make(other, seed=config.seed)), is_in_train


def _exchanges(rng: random.Random, *, part: str) -> Iterator[Exchange]:
    """Two to ``MOST_EXCHANGES``, the first of every second dialogue a greeting."""
    for place in range(2 + int(rng.random() * (MOST_EXCHANGES - 1))):
        yield draw_exchange(rng, part=part, rule="greeting" if place == 0 and rng.random() < 0.5 else None)


class _Stage:
    """Where turns are put one after another."""

    def __init__(self, config: EspeakDialogueConfig, rng: random.Random, voices: tuple[Voice, Voice], speaker: Speaker) -> None:
        self.config, self.rng, self.voices, self.speaker = config, rng, voices, speaker
        self.turns: list[Turn] = []
        self.sounds: list[tuple[Turn, Speech]] = []
        self.end = LEAD  # of what was said last
        self.asks = int(rng.random() * NUM_CHANNELS)

    def has_room_for(self, exchange: Exchange) -> bool:
        """Put an exchange behind the others; false, and nothing is put, where the dialogue would grow too long."""
        question, answer = (
            _trimmed(self.speaker.speak(text, self.voices[channel]), text)
            for text, channel in ((exchange.question, self.asks), (exchange.answer, 1 - self.asks))
        )
        before = self._between(SILENCE if self.rng.random() < self.config.silence_share else NEXT_GAP) if self.turns else 0.0
        overlaps = self.rng.random() < self.config.overlap_share
        gap = -self._between(OVERLAP) if overlaps else self._between(ANSWER_GAP)
        start = self.end + before
        answer_start = start + question.seconds + gap
        if answer_start + answer.seconds + TAIL > self.config.max_seconds:
            return False
        asked = self._put("question", exchange.rule, exchange.question, question, self.asks, start)
        answered = self._put("answer", exchange.rule, exchange.answer, answer, 1 - self.asks, answer_start)
        for turn, free_until in ((asked, answered.start), (answered, answered.end)):
            self._answer_briefly(turn, free_until)
        self.end = answered.end
        self.asks = int(self.rng.random() * NUM_CHANNELS)
        return True

    def _answer_briefly(self, turn: Turn, free_until: float) -> None:
        """Perhaps a back-channel of the listener within ``turn``, at the start of a word, over before the listener speaks again."""
        is_wanted = turn.duration >= LONG_TURN and self.rng.random() < self.config.back_channel_share
        text, chance = one_of(self.rng, BACK_CHANNELS), self.rng.random()
        if not is_wanted:
            return
        channel = 1 - turn.channel
        speech = _trimmed(self.speaker.speak(text, self.voices[channel]), text)
        starts = [span.start for span in turn.words if turn.start + 0.35 * turn.duration <= span.start]
        starts = [start for start in starts if start + speech.seconds + 0.2 <= free_until]
        if starts:
            self._put("back-channel", "", text, speech, channel, starts[int(chance * len(starts))])

    def _put(self, kind: TurnKind, rule: str, text: str, speech: Speech, channel: int, start: float) -> Turn:
        first = round(start * SAMPLE_RATE)
        start = first / SAMPLE_RATE
        turn = Turn(
            channel=channel, kind=kind, rule=rule, text=text, start=round(start, 4), duration=round(speech.seconds, 4),
            words=_later(speech.words, start), phones=_later(speech.phones, start),
        )  # fmt: skip
        self.turns.append(turn)
        self.sounds.append((turn, speech))
        return turn

    def mixed(self) -> Any:
        """All that was put, ``(T, 2)`` int16."""
        total = round((max(turn.end for turn in self.turns) + TAIL) * SAMPLE_RATE)
        samples = np.zeros((total, NUM_CHANNELS), np.int16)
        for turn, speech in self.sounds:
            first = round(turn.start * SAMPLE_RATE)
            samples[first : first + len(speech.samples), turn.channel] = speech.samples
        return samples

    def _between(self, limits: tuple[float, float]) -> float:
        return limits[0] + self.rng.random() * (limits[1] - limits[0])


def _trimmed(speech: Speech, text: str) -> Speech:
    """What is said without the silence around it; times count from its new start."""
    start = max(0.0, speech.phones[0].start - BEFORE)
    end = min(speech.seconds, speech.phones[-1].start + speech.phones[-1].duration + AFTER)
    first = round(start * SAMPLE_RATE)
    samples = speech.samples[first : round(end * SAMPLE_RATE)]
    words = timed_words(text, speech.words)
    return Speech(samples=samples, words=_later(words, -first / SAMPLE_RATE), phones=_later(speech.phones, -first / SAMPLE_RATE))


def _later(spans: tuple[Span, ...], seconds: float) -> tuple[Span, ...]:
    return tuple(Span(symbol=span.symbol, start=round(span.start + seconds, 4), duration=span.duration) for span in spans)
