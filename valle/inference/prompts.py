"""What a model is continued from: a recording's beginning as tokens, heard at speech level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from valle.audio import Waveform, resample
from valle.given_audio import PromptError
from valle.inference.continuation import MIN_PROMPT_SECONDS, ContinueSettings
from valle.inference.continuing import TokenPrompt
from valle.inference.prompt_stream import HeardPrompt
from valle.measures.level import Level, speech_gain_db, with_gain
from valle.timeline import Timeline
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.stream import encode_pieces


@dataclass(frozen=True)
class RowPrompt:
    """A row on its way through the stages, without its sound."""

    samples: int  # of the prompt, at the codec's rate
    tokens: TokenPrompt  # those that stay as they are whatever follows
    gain_db: float  # of the sound that the tokens are of


@dataclass(frozen=True)
class PromptReader:
    """Makes prompts for a model of ``num_quantizers`` codebooks; recordings are mono, at the codec's rate.

    Rows are encoded one by one: what a row is made of then cannot depend on its batch mates, whatever the tokenizer.
    """

    acoustic: AcousticTokenizer
    semantic: SemanticTokenizer | None
    timeline: Timeline
    num_quantizers: int

    def level(self, settings: ContinueSettings) -> Level:
        """At which prompts are heard."""
        return settings.level or ("none" if self.semantic is None else "speech")

    def gain_db(self, prompt: Waveform, settings: ContinueSettings) -> float:
        """What brings a prompt to that level."""
        return speech_gain_db(prompt, self.acoustic.sample_rate) if self.level(settings) == "speech" else 0.0

    def codes(self, wav: Waveform) -> Tensor:
        """The codes ``(T_f, Q)`` that the model knows."""
        return encode_pieces(self.acoustic, [wav])[:, : self.num_quantizers]

    def units(self, wav: Waveform) -> Tensor:
        """Units ``(T_u,)``."""
        assert self.semantic is not None
        return encode_pieces(self.semantic, [self._at_rate_of_units(wav)])

    def prompt(self, wav: Waveform, seed: int, gain_db: float) -> RowPrompt:
        """Tokens of a prompt, heard at ``gain_db``, without those that what follows it would change (``Tokenizer.kept_of_prompt``)."""
        self.refuse_too_short(wav)
        heard = with_gain(wav, gain_db)
        codes, units = self.codes(heard)[: self.acoustic.kept_of_prompt(len(wav))], None
        if self.semantic is not None:
            units = self.units(heard)[: self.semantic.kept_of_prompt(len(self._at_rate_of_units(heard)))]
        return self.of_heard(HeardPrompt(wav=wav, codes=codes, units=units, gain_db=gain_db), seed)

    def of_heard(self, heard: HeardPrompt, seed: int) -> RowPrompt:
        """A prompt whose kept tokens are trimmed to whole periods."""
        self.refuse_too_short(heard.wav)
        codes = heard.codes[:, : self.num_quantizers]
        units = codes.new_zeros(0) if heard.units is None else heard.units
        num_units, num_frames = self.timeline.align(len(units), len(codes))
        if num_frames == 0:
            found = len(heard.wav) / self.acoustic.sample_rate
            raise PromptError(f"expected a prompt longer than the tokenizers' right context, found {found:.2f} s; give a longer one")
        tokens = TokenPrompt(codes=codes[:num_frames], units=units[:num_units], seed=seed)
        return RowPrompt(samples=len(heard.wav), tokens=tokens, gain_db=heard.gain_db)

    def no_prompt(self, seed: int, gain_db: float, *, device: torch.device) -> RowPrompt:
        """A row that begins with nothing."""
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        codes = empty.new_zeros(0, self.num_quantizers)
        return RowPrompt(samples=0, tokens=TokenPrompt(codes=codes, units=empty, seed=seed), gain_db=gain_db)

    def refuse_too_short(self, wav: Waveform) -> None:
        """Raises ``PromptError`` for what holds no voice to go on with."""
        if (seconds := len(wav) / self.acoustic.sample_rate) < MIN_PROMPT_SECONDS:
            raise PromptError(f"expected a prompt of at least {MIN_PROMPT_SECONDS:g} s, found {seconds:.2f} s; give a longer recording")

    def _at_rate_of_units(self, wav: Waveform) -> Waveform:
        assert self.semantic is not None
        return resample(wav, self.acoustic.sample_rate, self.semantic.sample_rate)
