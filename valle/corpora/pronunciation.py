"""How a text is said: eSpeak NG's phones of each word, in a sentence (so that "a" and "the" are as weak as they are said)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import TracebackType

from valle.corpora.espeak_synthesiser import EspeakSynthesiser, SynthesisError
from valle.corpora.espeak_voices import Voice
from valle.errors import UserError

WORD = re.compile(r"\w+(?:['’]\w+)*")


class PronunciationError(UserError):
    """A text that cannot be said, or a voice that eSpeak NG does not have."""


@dataclass(frozen=True)
class SpokenWord:
    """A word, or several that eSpeak says as one ("of the"), and its phones."""

    text: str
    phones: tuple[str, ...]


class Pronouncer:
    """Texts to phones in one accent, such as ``en-us`` or ``de``.  Use it as a context manager: a helper process does the work."""

    def __init__(self, accent: str) -> None:
        self.accent = accent
        self._voice = Voice(name="pronouncer", accent=accent, variant="m3", is_female=False, pitch=50, pitch_range=50, rate=160)
        self._synthesiser = EspeakSynthesiser()

    def __enter__(self) -> Pronouncer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._synthesiser.close()

    def pronounce(self, text: str) -> list[SpokenWord]:
        """The words of ``text`` in order, in lower case, each with at least one phone.

        A text all in upper case is read as in lower case, so that US is a word; else capitals stay, which tell where sentences begin.
        """
        text = text.lower() if text.isupper() else text
        try:
            phones = self._synthesiser.pronounce(text, self._voice)
        except SynthesisError as error:
            raise PronunciationError(
                f"expected a text that eSpeak NG says in the accent {self.accent!r}, found that it does not say {text[:60]!r} ({error}); "
                "name another --accent, or correct the text"
            ) from error
        words: list[tuple[list[str], list[str]]] = []
        places = [(match.start(), match.group()) for match in WORD.finditer(text)]
        spoken = {position for position, _ in phones}
        for number, (position, word) in enumerate(places):
            if position in spoken or not words:
                words.append(([], []))
            words[-1][0].append(word.lower())
            following = places[number + 1][0] if number + 1 < len(places) else len(text) + 1
            begin = 0 if number == 0 else position
            words[-1][1].extend(symbol for place, symbol in phones if begin <= place < following)
        return [SpokenWord(" ".join(names), tuple(symbols)) for names, symbols in words if symbols]
