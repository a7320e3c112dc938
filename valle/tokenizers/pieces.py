"""Long clips that are in memory already, encoded and decoded in pieces: an hour takes the memory of a minute (see ``stream.py``)."""

from __future__ import annotations

import torch
from torch import Tensor

from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.stream import decode_pieces, encode_pieces


def encode_clip(tokenizer: AcousticTokenizer | SemanticTokenizer, wav: Tensor) -> Tensor:
    """``wav (T,)`` float32 at the tokenizer's rate -> codes ``(T_f, Q)`` or units ``(T_u,)``, on the CPU."""
    return encode_pieces(tokenizer, [wav]).cpu()


def decode_clip(codec: AcousticTokenizer, codes: Tensor) -> Tensor:
    """Codes ``(T_f, Q)`` -> wav ``(T_f * hop_length,)`` float32, on the CPU."""
    return torch.cat([piece.cpu() for piece in decode_pieces(codec, codes)])
