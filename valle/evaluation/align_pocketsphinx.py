"""Phone times by PocketSphinx, a recogniser with an English model of its own: labels that owe nothing to this project's aligner.

Its phones are the CMU dictionary's.  A transcript with a word that the dictionary lacks, or through which it finds no path, is
left out.  It gives no posteriors, so every phone's confidence is 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from lhotse.cut import Cut

from valle.audio import resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.pronunciation import SpokenWord
from valle.errors import UserError
from valle.models.phone_aligner import Aligned, AlignedPhone

SAMPLE_RATE = 16000
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*'?")
NO_SPEECH = re.compile(r"SIL|\+.*\+|<.*>|\[.*\]")


class PocketSphinx:
    """A decoder that is loaded once and aligns one utterance after another."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise UserError("expected the package pocketsphinx for --labels pocketsphinx, found none; pip install pocketsphinx") from error
        self._decoder: Any = Decoder(lm=None, loglevel="FATAL")
        self._step = 1 / float(self._decoder.config["frate"])  # seconds a frame

    def align(self, cut: Cut, text: str) -> tuple[list[SpokenWord], Aligned] | str:
        """Words and phones of ``text`` with their times, or why there are none."""
        words = [word.lower() for word in WORD.findall(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))]
        unknown = sorted({word for word in words if not self._decoder.lookup_word(word)})
        if unknown or not words:
            return f"PocketSphinx's dictionary lacks {', '.join(unknown)}" if unknown else "no words"
        samples, rate = read_cut(cut)
        wav = (resample(samples, rate, SAMPLE_RATE).clip(-1, 1) * 32767).astype(np.int16).tobytes()
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decode(wav)  # words
            self._decoder.set_alignment()
            self._decode(wav)  # and within them phones
            found = self._times(self._decoder.get_alignment())
        except RuntimeError as error:
            return f"PocketSphinx finds no path ({' '.join(str(error).split())[:80]})"

        said = [word.text for word in found[0]]
        return found if said == words else f"PocketSphinx finds {len(said)} of {len(words)} words"

    def _decode(self, wav: bytes) -> None:
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(wav, full_utt=True)
        finally:
            self._decoder.end_utt()

    def _times(self, alignment: Any) -> tuple[list[SpokenWord], Aligned]:
        words: list[SpokenWord] = []
        phones: list[AlignedPhone] = []
        for word in alignment or ():
            if NO_SPEECH.fullmatch(word.name):
                continue
            own = [phone for phone in word if not NO_SPEECH.fullmatch(phone.name)]
            phones += [
                AlignedPhone(len(words), phone.name, phone.start * self._step, (phone.start + phone.duration) * self._step, 1.0)
                for phone in own
            ]
            words.append(SpokenWord(re.sub(r"\(\d+\)$", "", word.name), tuple(phone.name for phone in own)))
        return words, Aligned(phones, 0.0)


def align_by_pocketsphinx(cuts: Sequence[Cut], texts: Sequence[str]) -> Iterator[tuple[list[SpokenWord], Aligned] | str]:
    """Of each cut with its text."""
    aligner = PocketSphinx()
    for cut, text in zip(cuts, texts, strict=True):
        yield aligner.align(cut, text)
