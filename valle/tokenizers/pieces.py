"""Long clips in pieces, with the context that a tokenizer says it needs: an hour takes the memory of a minute.

Tokens are a local function of the audio, so a piece that has ``left_context`` before it and ``right_context`` after it has the
tokens of the whole clip.  Tokenizers whose tokens depend on everything before them get the clip whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.residual_codec import ResidualCodec

PIECE_SECONDS = 60.0
LONGEST_CONTEXT = 60.0  # seconds on each side, beyond which a piece would be more context than piece


class _Piece(NamedTuple):
    """Tokens ``first..first + kept`` of a clip, out of those of tokens ``start..stop``."""

    first: int
    kept: int
    start: int
    stop: int


def encode_clip(tokenizer: AcousticTokenizer | SemanticTokenizer, wav: Tensor) -> Tensor:
    """``wav (T,)`` float32 at the tokenizer's rate -> codes ``(T_f, Q)`` or units ``(T_u,)``, on the CPU."""
    hop = tokenizer.hop_length
    total = tokenizer.num_tokens(len(wav))
    kept = []
    for piece in _pieces(tokenizer, total, whole=tokenizer.encodes_in_windows):
        heard = wav[piece.start * hop : piece.stop * hop]
        with tokenizer.at_precision(heard.device):
            tokens, _ = tokenizer.encode(heard[None], torch.tensor([len(heard)], device=heard.device))
        kept.append(tokens[0, piece.first - piece.start :][: piece.kept].cpu())
    return torch.cat(kept)


def decode_clip(codec: AcousticTokenizer, codes: Tensor) -> Tensor:
    """Codes ``(T_f, Q)`` -> wav ``(T_f * hop_length,)`` float32, on the CPU.

    In pieces where the codec is one of our own: others state the context of their encoder alone.
    """
    hop = codec.hop_length
    kept = []
    for piece in _pieces(codec, len(codes), whole=not isinstance(codec, ResidualCodec)):
        given = codes[piece.start : piece.stop]
        wav = codec.decode(given[None], torch.tensor([len(given)], device=given.device))
        kept.append(wav[0, (piece.first - piece.start) * hop :][: piece.kept * hop].cpu())
    return torch.cat(kept)


def _pieces(tokenizer: AcousticTokenizer | SemanticTokenizer, total: int, *, whole: bool) -> Iterator[_Piece]:
    hop, longest = tokenizer.hop_length, LONGEST_CONTEXT * tokenizer.sample_rate
    size = int(PIECE_SECONDS * tokenizer.sample_rate / hop)
    if whole or max(tokenizer.left_context, tokenizer.right_context) > longest:
        size = max(1, total)
    before, after = -(-tokenizer.left_context // hop), -(-tokenizer.right_context // hop)
    for first in range(0, total, size):
        kept = min(size, total - first)
        yield _Piece(first=first, kept=kept, start=max(0, first - before), stop=min(total, first + kept + after))
