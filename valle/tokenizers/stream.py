"""Long and live audio: tokens of sound that comes in pieces, the same as of the whole, in memory that does not grow with it.

    stream = TokenStream(tokenizer)
    for piece in pieces:               # of any size
        tokens = stream.push(piece)    # those that nothing to come can change
    tokens = stream.flush()            # the others, at the end

    stream = SampleStream(codec, context)  # and codes to sound, in the same way

A tokenizer states what its tokens depend on (``left_context``, ``right_context``), so a stream holds that much of the sound and
encodes it anew with what is new.  A codec with a state of its own (``encode_piece``, as SoundStream) goes on from it instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from valle.audio import PIECE_SECONDS, Waveform, audio_pieces
from valle.errors import UserError
from valle.timeline import ceil_division
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.pretrained_codec import PretrainedCodec
from valle.tokenizers.residual_codec import ResidualCodec

LONGEST_CONTEXT = 60.0  # seconds; tokens that depend on more are made of the whole sound, at its end

AnyTokenizer = AcousticTokenizer | SemanticTokenizer


@runtime_checkable
class EncodesPieces(Protocol):
    """A causal codec that goes on from a state."""

    def encode_piece(self, wav: Tensor, state: Any | None = None) -> tuple[Tensor, Any]:
        """The next ``wav (B, n * hop_length)`` -> codes ``(B, n, Q)`` and the state to go on from."""


@runtime_checkable
class DecodesPieces(Protocol):
    """A causal codec whose decoder goes on from a state."""

    def decode_piece(self, codes: Tensor, state: Any | None = None) -> tuple[Tensor, Any]:
        """The next ``codes (B, n, Q)`` -> wav ``(B, n * hop_length)`` and the state to go on from."""


class TokenStream:
    """Tokens of one sound that comes in pieces of any size, as soon as nothing that follows can change them.

    All that ``push`` and ``flush`` return, end to end, is what ``encode`` returns for the whole sound.
    """

    def __init__(self, tokenizer: AnyTokenizer) -> None:
        self._tokenizer = tokenizer
        self._device = next(chain(tokenizer.parameters(), tokenizer.buffers())).device
        self._needs_all = tokenizer.left_context > LONGEST_CONTEXT * tokenizer.sample_rate and not isinstance(tokenizer, EncodesPieces)
        self._begin()

    def _begin(self) -> None:
        self._heard = torch.zeros(0, device=self._device)  # samples from token self._start on
        self._kept: list[Tensor] = []  # what follows them, where all is needed at once: joined at the end, not with every piece
        self._start = self._given = 0
        self._state: Any = None

    @property
    def held_seconds(self) -> float:
        """How much of the sound is kept for tokens to come."""
        return (len(self._heard) + sum(map(len, self._kept))) / self._tokenizer.sample_rate

    def push(self, wav: Waveform | Tensor) -> Tensor:
        """The next samples ``(n,)`` at the tokenizer's rate -> the tokens that are final now, ``(m,)`` units or ``(m, Q)`` codes."""
        return torch.cat([self._none(), *(self._push(piece) for piece in self._pieces(wav))])

    def flush(self, wav: Waveform | Tensor | None = None) -> Tensor:
        """The sound ends, after ``wav`` if there is more of it -> its remaining tokens.  The stream then stands before another sound."""
        *before, last = self._pieces(np.zeros(0, np.float32) if wav is None else wav)
        tokens = [self._push(piece) for piece in before]
        if isinstance(self._tokenizer, EncodesPieces):
            silence = last.new_zeros(-(len(self._heard) + len(last)) % self._tokenizer.hop_length)
            tokens.append(self._push(torch.cat([last, silence])))
        else:
            self._heard = torch.cat([self._heard, *self._kept, last])
            self._kept = []
            tokens.append(self._up_to(self._tokenizer.num_tokens(self._received)))
        self._begin()
        return torch.cat(tokens)

    def _pieces(self, wav: Waveform | Tensor) -> tuple[Tensor, ...]:
        samples = torch.as_tensor(wav, dtype=torch.float32, device=self._device)
        if self._tokenizer.encodes_in_windows:  # by itself, and many at a time
            return (samples,)
        return samples.split(round(PIECE_SECONDS * self._tokenizer.sample_rate))

    @property
    def _received(self) -> int:
        return self._start * self._tokenizer.hop_length + len(self._heard)

    def _push(self, wav: Tensor) -> Tensor:
        if self._needs_all:
            self._kept.append(wav.clone())
            return self._none()
        self._heard = torch.cat([self._heard, wav])
        if isinstance(self._tokenizer, EncodesPieces):
            return self._from_state(self._tokenizer)
        return self._up_to(self._tokenizer.settled(self._received))

    def _from_state(self, codec: EncodesPieces) -> Tensor:
        """Codes of the whole frames that are held."""
        used = len(self._heard) // self._tokenizer.hop_length * self._tokenizer.hop_length
        if not used:
            return self._none()
        with self._tokenizer.at_precision(self._device):
            codes, self._state = codec.encode_piece(self._heard[None, :used], self._state)
        self._heard = self._heard[used:].clone()
        return codes[0]

    def _up_to(self, last: int) -> Tensor:
        """Tokens from the first that was not given yet, before ``last``; what no later one depends on is forgotten."""
        if last <= self._given:
            return self._none()
        with self._tokenizer.at_precision(self._device):
            tokens, _ = self._tokenizer.encode(self._heard[None], torch.tensor([len(self._heard)], device=self._device))
        new = tokens[0, self._given - self._start : last - self._start].clone()
        start = self._tokenizer.heard_from(last)
        self._heard = self._heard[(start - self._start) * self._tokenizer.hop_length :].clone()
        self._start, self._given = start, last
        return new

    def _none(self) -> Tensor:
        shape = (0, self._tokenizer.num_codebooks) if isinstance(self._tokenizer, AcousticTokenizer) else (0,)
        return torch.zeros(shape, dtype=torch.int64, device=self._device)


def encode_pieces(tokenizer: AnyTokenizer, pieces: Iterable[Waveform | Tensor]) -> Tensor:
    """Consecutive ``pieces (n,)`` of one sound at the tokenizer's rate -> all its tokens, ``(T,)`` units or ``(T, Q)`` codes."""
    stream, tokens = TokenStream(tokenizer), []
    last: Waveform | Tensor = np.zeros(0, np.float32)
    for piece in pieces:  # one behind, so that a short sound is encoded once
        tokens.append(stream.push(last))
        last = piece
    return torch.cat([*tokens, stream.flush(last)])


def encode_file(tokenizer: AnyTokenizer, path: Path) -> Tensor:
    """All tokens of an audio file of any length, as ``encode_pieces``; raises ``AudioFileError``."""
    return encode_pieces(tokenizer, audio_pieces(path, sample_rate=tokenizer.sample_rate))


def decode_pieces(codec: AcousticTokenizer, codes: Tensor) -> Iterator[Tensor]:
    """Codes ``(T_f, Q)`` of a sound of any length -> its samples ``(T_f * hop_length,)``, in pieces.

    Only codecs of our own are decoded in pieces here, which state their decoder's context; others state the encoder's alone.
    """
    hop, size = codec.hop_length, round(PIECE_SECONDS * codec.sample_rate) // codec.hop_length
    before, after = 0, 0
    if isinstance(codec, ResidualCodec) and len(codes) > 2 * size:
        before, after = (ceil_division(context, hop) for context in codec.sound_context)
    else:
        size = max(1, len(codes))
    for first in range(0, len(codes), size):
        start, stop = max(0, first - before), min(first + size, len(codes))
        given = codes[start : stop + after]
        wav = codec.decode(given[None], torch.tensor([len(given)], device=codes.device))[0]
        yield wav[(first - start) * hop : (stop - start) * hop]


class SampleStream:
    """Sound of codes that come in pieces of any size, as soon as no code that follows can change it.

    All that ``push`` and ``flush`` return, end to end, is what ``decode`` returns for all codes, but for ``context (T, Q)``, the codes
    before the first, whose own sound is not wanted.
    """

    def __init__(self, codec: AcousticTokenizer, context: Tensor) -> None:
        """Raises ``UserError`` for a codec whose decoder depends on all codes before, and has no state to go on from."""
        self._codec, self._state = codec, None
        self.frames_before, self.frames_ahead = decoder_reach(codec)
        self._codes = context[max(0, len(context) - self.frames_before) :]
        self._given = len(self._codes)  # frames of these whose sound was returned, or is not wanted
        if isinstance(codec, DecodesPieces) and len(self._codes):
            _, self._state = codec.decode_piece(self._codes[None])

    def push(self, codes: Tensor) -> Tensor:
        """The next frames ``(n, Q)`` -> the samples ``(m,)`` that are final now."""
        self._codes = torch.cat([self._codes, codes])
        return self._up_to(len(self._codes) - self.frames_ahead)

    def flush(self) -> Tensor:
        """The codes end -> the remaining samples."""
        return self._up_to(len(self._codes))

    @property
    def held_frames(self) -> int:
        """Frames that are kept for sound to come."""
        return len(self._codes)

    @torch.inference_mode()
    def _up_to(self, last: int) -> Tensor:
        """Sound of the frames not given yet, before number ``last`` of those held."""
        codec, hop = self._codec, self._codec.hop_length
        if last <= self._given:
            return torch.zeros(0, device=self._codes.device)
        if isinstance(codec, DecodesPieces):
            sound, self._state = codec.decode_piece(self._codes[None, self._given : last], self._state)
        else:
            whole = codec.decode(self._codes[None], torch.tensor([len(self._codes)], device=self._codes.device))
            sound = whole[:, self._given * hop : last * hop]
        forgotten = max(0, last - self.frames_before)
        self._codes, self._given = self._codes[forgotten:].clone(), last - forgotten
        return sound[0]


def decoder_reach(codec: AcousticTokenizer) -> tuple[int, int]:
    """Frames before and after its own on which a frame's sound depends; raises ``UserError`` where no number bounds those before."""
    if isinstance(codec, ResidualCodec):
        before, after = (ceil_division(context, codec.hop_length) for context in codec.sound_context)
        return before, 0 if isinstance(codec, DecodesPieces) else after
    if isinstance(codec, PretrainedCodec) and codec.sound_reach:
        return codec.sound_reach, codec.sound_reach
    raise UserError(
        f"the codec {codec.name} makes sound of all codes from the first on, so it cannot be streamed; continue the recording without "
        "--stream, or train with another codec, such as valle-convnext or dac"
    )


def encode_clip(tokenizer: AcousticTokenizer | SemanticTokenizer, wav: Tensor) -> Tensor:
    """``wav (T,)`` float32 at the tokenizer's rate -> codes ``(T_f, Q)`` or units ``(T_u,)``, on the CPU."""
    return encode_pieces(tokenizer, [wav]).cpu()


def decode_clip(codec: AcousticTokenizer, codes: Tensor) -> Tensor:
    """Codes ``(T_f, Q)`` -> wav ``(T_f * hop_length,)`` float32, on the CPU."""
    return torch.cat([piece.cpu() for piece in decode_pieces(codec, codes)])
