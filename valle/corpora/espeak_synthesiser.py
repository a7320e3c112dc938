"""eSpeak NG as an object: a text and a voice go in, 16 kHz audio and the times of its words and phones come out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from valle.corpora.espeak_grammar import WORD
from valle.corpora.espeak_helper import HEADER
from valle.corpora.espeak_voices import Voice
from valle.corpora.speech import SAMPLE_RATE, Span, Speech

__all__ = ["CALIBRATION_TEXT", "SAMPLE_RATE", "TARGET_RMS", "EspeakSynthesiser", "Span", "Speaker", "Speech", "SynthesisError"]

CALIBRATION_TEXT = "The young doctor found seven yellow flowers near the old bridge, but my father walked into the garden."
TARGET_RMS = 0.07  # of full scale, over the calibration text: about -23 dBFS


class SynthesisError(RuntimeError):
    """eSpeak NG did not do what it was asked to."""


class Speaker(Protocol):
    """What turns a text into speech."""

    def speak(self, text: str, voice: Voice) -> Speech: ...


class EspeakSynthesiser:
    """Speaks in a helper process; one thread may use it at a time.  Use it as a context manager.

    A voice has one gain, set such that it speaks a fixed text at ``TARGET_RMS``.
    """

    def __init__(self) -> None:
        package_root = str(Path(__file__).resolve().parents[2])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "valle.corpora.espeak_helper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        hello, _ = self._receive()
        self.version: str = hello["version"]
        self._espeak_rate: int = hello["sample_rate"]
        self._gains: dict[Voice, float] = {}

    def __enter__(self) -> EspeakSynthesiser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the helper."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def speak(self, text: str, voice: Voice, *, phonemes: bool = False) -> Speech:
        """The speech of ``text``, which depends on nothing but the text and the voice.

        With ``phonemes``, what stands in ``[[ ]]`` are eSpeak's own names of phonemes, such as those of :meth:`spell`.
        """
        loud, events = self._speak_raw(text, voice, phonemes=phonemes)
        samples = soxr.resample(loud * self._gain(voice), self._espeak_rate, SAMPLE_RATE, quality="HQ")
        samples = np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)
        end = len(samples) / SAMPLE_RATE
        words, phones = _spans(events, text=text, sample_rate=self._espeak_rate, end=end)
        starts = _starts(events, sample_rate=self._espeak_rate)
        return Speech(samples=samples, words=tuple(words), phones=tuple(phones), starts=starts)

    def spell(self, words: Sequence[str], voice: Voice) -> list[tuple[str, ...]]:
        """eSpeak's names of the phonemes of each word in the voice's accent; a stress mark stands before its vowel.

        >>> with EspeakSynthesiser() as synthesiser:  # doctest: +SKIP
        ...     synthesiser.spell(["hammer"], voice)
        [('h', "'a", 'm', '3')]
        """
        self._send({"voice": voice.espeak_name, "spell": list(words)})
        answer, _ = self._receive()
        return [tuple(phoneme for phoneme in spelled.split("_") if phoneme) for spelled in answer["phonemes"]]

    def pronounce(self, text: str, voice: Voice) -> list[tuple[int, str]]:
        """The phones of ``text``, each with the place in it of the word that it belongs to."""
        _, events = self._speak_raw(text, voice)
        phones = [(position, _symbol(name)) for kind, _, position, _, name in events if kind == "phone"]
        return [(position, symbol) for position, symbol in phones if symbol.strip("_ː")]

    def _gain(self, voice: Voice) -> float:
        if voice not in self._gains:
            loud, _ = self._speak_raw(CALIBRATION_TEXT, voice)
            self._gains[voice] = TARGET_RMS / float(np.sqrt(np.mean(np.square(loud, dtype=np.float64))))
        return self._gains[voice]

    def _speak_raw(self, text: str, voice: Voice, *, phonemes: bool = False) -> tuple[NDArray[np.float32], list[list[Any]]]:
        settings = asdict(voice)
        request = {key: settings[key] for key in ("rate", "pitch", "pitch_range")}
        self._send({**request, "voice": voice.espeak_name, "text": text, **({"phonemes": True} if phonemes else {})})
        answer, pcm = self._receive()
        if not pcm:
            raise SynthesisError(f"eSpeak NG gave no sound for {text!r} with the voice {voice.espeak_name!r}")
        return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32768), answer["events"]

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(request) + "\n").encode())
        self._process.stdin.flush()

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        head_bytes, pcm_bytes = HEADER.unpack(self._read(HEADER.size))
        head = json.loads(self._read(head_bytes))
        if "error" in head:
            raise SynthesisError(f"eSpeak NG: {head['error']}")
        return head, self._read(pcm_bytes)

    def _read(self, num_bytes: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(num_bytes)
        if len(data) < num_bytes:
            raise SynthesisError("the eSpeak NG helper process ended before it answered")
        return data


def _spans(events: list[list[Any]], *, text: str, sample_rate: int, end: float) -> tuple[list[Span], list[Span]]:
    """Words and phones: a phone lasts until the next event, a word from its first phone to its last one's end.

    Stress marks are taken off phones; pauses are left out.
    """
    phones: list[Span] = []
    bounds: dict[int, tuple[float, float]] = {}  # of the word at a text position
    timed = [event for event in events if event[0] in ("phone", "end")]
    for event, following in zip(timed, [*timed[1:], None], strict=True):
        kind, sample, position, _, name = event
        symbol = _symbol(name)
        start, stop = sample / sample_rate, min(following[1] / sample_rate if following else end, end)
        if kind == "phone" and symbol.strip("_ː") and stop > start:
            phones.append(_span(symbol, start, stop))
            bounds[position] = (bounds[position][0] if position in bounds else start, stop)
    places = [(match.start(), match.group()) for match in WORD.finditer(text)]
    words = [_span(word.lower(), *bounds[position]) for position, word in places if position in bounds]
    return words, phones


def _starts(events: list[list[Any]], *, sample_rate: int) -> dict[int, float]:
    """Where the first phone of the word at each place of the text sounds, in seconds."""
    starts: dict[int, float] = {}
    for kind, sample, position, _, name in events:
        if kind == "phone" and _symbol(name).strip("_ː"):
            starts.setdefault(position, sample / sample_rate)
    return starts


def _symbol(name: str) -> str:
    """A phone's name without stress."""
    return name.strip("ˈˌ").replace(":", "ː")


def _span(symbol: str, start: float, stop: float) -> Span:
    return Span(symbol=symbol, start=round(start, 4), duration=round(stop - start, 4))
