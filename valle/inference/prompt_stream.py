"""A prompt that is still being spoken: its tokens are made as it comes in, so that only the last remain to be made at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from valle.audio import Resampler, Waveform
from valle.given_audio import PromptError, Recording, as_waveform
from valle.measures.level import LiveGain, speech_gain_db, with_gain
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.stream import TokenStream


@dataclass(frozen=True)
class HeardPrompt:
    """A prompt and the tokens that stay as they are whatever follows it (``Tokenizer.kept_of_prompt``)."""

    wav: Waveform  # (T,) at the codec's rate, as it came
    codes: Tensor  # (T_f, Q) of the wav at ``gain_db``
    units: Tensor | None  # (T_u,)
    gain_db: float


class PromptStream:
    """Pieces of any size -> the prompt that they make, at most ``most`` samples of it at the codec's rate.

    With ``at_speech_level``, the stages hear the prompt at the level that ``LiveGain`` finds in its first second of speech, or of all
    of it where it ends before; until then nothing is encoded.
    """

    def __init__(
        self, acoustic: AcousticTokenizer, semantic: SemanticTokenizer | None, *, sample_rate: int, most: int, at_speech_level: bool
    ) -> None:
        if sample_rate <= 0:
            raise PromptError(f"expected a sample rate above 0 Hz, found {sample_rate}")
        self._resampler = Resampler(sample_rate, acoustic.sample_rate)
        self._rate, self._most = acoustic.sample_rate, most
        self._wav: list[Waveform] = []
        self._gain = LiveGain(acoustic.sample_rate) if at_speech_level else None
        self._gain_db: float | None = None if at_speech_level else 0.0
        self._unheard: list[Waveform] = []  # while the gain is not known, and at the end, so that the end is encoded once
        self._streams = [_Tokens(acoustic, acoustic.sample_rate)]
        if semantic is not None:
            self._streams.append(_Tokens(semantic, acoustic.sample_rate))

    @property
    def num_samples(self) -> int:
        """Of the prompt so far, at the codec's rate."""
        return sum(map(len, self._wav))

    @property
    def is_full(self) -> bool:
        """Whether nothing more is wanted."""
        return self.num_samples >= self._most

    @property
    def codes(self) -> Tensor:
        """Those that nothing to come can change ``(T_f, Q)``."""
        return self._streams[0].settled

    @property
    def units(self) -> Tensor:
        """The same of units ``(T_u,)``; empty without."""
        return self._streams[1].settled if len(self._streams) > 1 else self.codes.new_zeros(0)

    def push(self, piece: Recording) -> None:
        """The next samples ``(n,)``; raises ``PromptError`` for what is no sound."""
        samples = as_waveform(piece)
        if len(samples):
            self._take(self._resampler.next(samples))

    def finish(self) -> HeardPrompt:
        """The prompt ends."""
        if not self.is_full:
            self._take(self._resampler.last())
        wav = np.concatenate([np.zeros(0, np.float32), *self._wav])
        if self._gain_db is None:
            self._gain_db = speech_gain_db(wav, self._rate)
        rest = self._at_gain(self._gain_db)
        codes, *units = [stream.kept(rest) for stream in self._streams]
        return HeardPrompt(wav=wav, codes=codes, units=units[0] if units else None, gain_db=self._gain_db)

    def _take(self, wav: Waveform) -> None:
        wav = wav[: max(0, self._most - self.num_samples)]
        if len(wav):
            self._wav.append(wav)
            self._unheard.append(wav)
            if self._gain_db is None and self._gain is not None:
                self._gain_db = self._gain.hear(wav)
            if self._gain_db is not None and not self.is_full:
                heard = self._at_gain(self._gain_db)
                for stream in self._streams:
                    stream.push(heard)

    def _at_gain(self, gain_db: float) -> Waveform:
        """What was not heard yet, as it is to be heard."""
        unheard, self._unheard = np.concatenate([np.zeros(0, np.float32), *self._unheard]), []
        return with_gain(unheard, gain_db)


class _Tokens:
    """One kind of tokens of sound at ``sample_rate``."""

    def __init__(self, tokenizer: AcousticTokenizer | SemanticTokenizer, sample_rate: int) -> None:
        self._tokenizer = tokenizer
        self._resampler = Resampler(sample_rate, tokenizer.sample_rate)
        self._stream = TokenStream(tokenizer)
        self.settled = self._stream.push(np.zeros(0, np.float32))
        self._heard = 0  # samples at the tokenizer's rate

    def push(self, wav: Waveform) -> None:
        samples = self._resampler.next(wav)
        self._heard += len(samples)
        self.settled = torch.cat([self.settled, self._stream.push(samples)])

    def kept(self, wav: Waveform) -> Tensor:
        """The sound ends after ``wav`` -> the tokens that a continuation goes on from."""
        samples = np.concatenate([self._resampler.next(wav), self._resampler.last()])
        self._heard += len(samples)
        kept = self._tokenizer.kept_of_prompt(self._heard)
        if len(self.settled) >= kept:
            return self.settled[:kept]
        return torch.cat([self.settled, self._stream.flush(samples)])[:kept]
