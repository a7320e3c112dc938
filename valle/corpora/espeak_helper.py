"""The process that speaks: eSpeak NG by ctypes, one fork for each utterance.

eSpeak's state survives from one utterance to the next, even over a new initialisation, so that most voices depend
on what was spoken before.  This process therefore loads the library and never speaks; each request is spoken by a
fork of it, which ends afterwards.  It imports nothing big, so that a fork costs about a millisecond.

Run as ``python -m valle.corpora.espeak_helper``.  Requests are lines of JSON on standard input; an answer is two
little-endian uint32 (bytes of JSON, bytes of PCM), the JSON, and the PCM (int16, mono).
Source of the interface: ``espeak-ng/speak_lib.h`` of eSpeak NG 1.52.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from typing import Any

import espeakng_loader

HEADER = struct.Struct("<II")

_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS_IN_IPA = 1 | 2
_POSITION_IN_CHARACTERS = 1
_TEXT_IS_UTF8 = 1
_TEXT_HAS_PHONEMES = 0x100  # what stands in [[ ]] is eSpeak's names of phonemes
_SEPARATED_BY_UNDERSCORES = ord("_") << 8
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_VOLUME_WITH_HEADROOM = 40  # of 100; louder, a third of the variants clip
_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_SENTENCE, _EVENT_END, _EVENT_PHONEME = 0, 1, 2, 5, 7
_EVENT_NAMES = {_EVENT_WORD: "word", _EVENT_SENTENCE: "sentence", _EVENT_END: "end", _EVENT_PHONEME: "phone"}


class _Event(ctypes.Structure):
    """``espeak_EVENT``; ``id`` is a union that holds a phoneme's name in at most 8 bytes."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Espeak:
    """The loaded library, which speaks once at most."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Info.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data_path = espeakng_loader.get_data_path()
        self.variants_folder = os.path.join(data_path, "voices", "!v")
        self.sample_rate: int = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data_path.encode(), _PHONEME_EVENTS_IN_IPA)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak_Initialize returned {self.sample_rate} for the data in {data_path}")
        self.version: str = self._library.espeak_Info(None).decode()
        self._pcm = bytearray()
        self._events: list[tuple[str, int, int, int, str]] = []
        self._callback = _Callback(self._receive)  # kept, or it is collected while the library calls it

    def speak(self, request: dict[str, Any]) -> tuple[bytes, list[tuple[str, int, int, int, str]]]:
        """PCM and events ``(kind, sample, text position from 0, length in characters, name)`` of one text."""
        self._choose_voice(request["voice"])
        self._check(self._library.espeak_SetParameter(_VOLUME, _VOLUME_WITH_HEADROOM, 0), "setting the volume")
        for parameter, key in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "pitch_range")):
            self._check(self._library.espeak_SetParameter(parameter, request[key], 0), f"setting {key} to {request[key]}")
        self._library.espeak_SetSynthCallback(self._callback)
        text = request["text"].encode()
        flags = _TEXT_IS_UTF8 | (_TEXT_HAS_PHONEMES if request.get("phonemes") else 0)
        code = self._library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, _POSITION_IN_CHARACTERS, 0, flags, None, None)
        self._check(code, "speaking")
        return bytes(self._pcm), self._events

    def spell(self, request: dict[str, Any]) -> list[str]:
        """eSpeak's names of the phonemes of each of several words, separated by underscores, stress marks before vowels."""
        self._choose_voice(request["voice"])
        return [self._spell_word(word) for word in request["spell"]]

    def _spell_word(self, word: str) -> str:
        text = ctypes.create_string_buffer(word.encode())
        rest = ctypes.c_void_p(ctypes.addressof(text))
        phonemes: bytes = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _TEXT_IS_UTF8, _SEPARATED_BY_UNDERSCORES)
        return phonemes.decode()

    def _choose_voice(self, name: str) -> None:
        """An unknown voice would speak with the one before, an unknown variant without it, and both unheard."""
        variant = name.partition("+")[2]
        if variant and not os.path.isfile(os.path.join(self.variants_folder, variant)):
            raise RuntimeError(f"no variant {variant!r} in {self.variants_folder}")
        self._check(self._library.espeak_SetVoiceByName(name.encode()), f"choosing the voice {name!r}")

    @staticmethod
    def _check(code: int, what: str) -> None:
        if code != 0:
            raise RuntimeError(f"{what} returned {code}, expected 0")

    def _receive(self, samples: Any, num_samples: int, events: Any) -> int:
        if num_samples > 0 and samples:
            self._pcm += ctypes.string_at(samples, 2 * num_samples)
        index = 0
        while events[index].type != _EVENT_END_OF_LIST:
            event = events[index]
            if event.type in _EVENT_NAMES:
                is_phone = event.type == _EVENT_PHONEME
                name = event.id.decode("utf-8", "replace") if is_phone else ""
                kind = _EVENT_NAMES[event.type]
                self._events.append((kind, event.sample, event.text_position - 1, event.length, name))
            index += 1
        return 0


def _answer(espeak: _Espeak, line: bytes) -> bytes:
    try:
        request = json.loads(line)
        if "spell" in request:
            pcm, head = b"", json.dumps({"phonemes": espeak.spell(request)}).encode()
        else:
            pcm, events = espeak.speak(request)
            head = json.dumps({"events": events}).encode()
    except RuntimeError as error:
        pcm, head = b"", json.dumps({"error": str(error)}).encode()
    return HEADER.pack(len(head), len(pcm)) + head + pcm


def _write_all(answer: bytes) -> None:
    view = memoryview(answer)
    while view:
        view = view[os.write(1, view) :]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; this ends when its input does
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # and without a word when nobody listens any more
    espeak = _Espeak()
    hello = json.dumps({"version": espeak.version, "sample_rate": espeak.sample_rate}).encode()
    _write_all(HEADER.pack(len(hello), 0) + hello)
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            _write_all(_answer(espeak, line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            head = json.dumps({"error": f"the speaking process ended with status {status}"}).encode()
            _write_all(HEADER.pack(len(head), 0) + head)


if __name__ == "__main__":
    main()
