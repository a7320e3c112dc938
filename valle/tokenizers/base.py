"""What every tokenizer offers, and the identity by which its tokens are known.

Tokens are a local function of the audio: the same for a clip alone and in a padded batch, and the same for a
prompt and for the whole file up to the stated right context.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from valle.timeline import Grid, ceil_division


@dataclass(frozen=True)
class TokenizerIdentity:
    """Which tokenizer made a stream of tokens: two streams agree only if their identities are equal."""

    kind: Literal["acoustic", "semantic"]
    name: str
    sha256: str  # of configuration and weights
    sample_rate: int  # Hz
    hop_length: int  # samples
    num_codebooks: int  # 1 for units
    codebook_size: int
    left_context: int  # samples before a token's own that it may depend on
    right_context: int  # samples after a token's own that it may depend on

    @property
    def grid(self) -> Grid:
        return Grid(sample_rate=self.sample_rate, hop_length=self.hop_length)

    def __str__(self) -> str:
        return f"{self.name} ({self.sha256[:12]})"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TokenizerIdentity:
        """The inverse of ``to_dict``; raises ``ValueError`` or ``TypeError`` for what a damaged file holds."""
        for name in ("sample_rate", "hop_length", "num_codebooks", "codebook_size", "left_context", "right_context"):
            if not isinstance(values[name], int) or values[name] < ("context" not in name):
                raise ValueError(f"{name} is {values[name]!r}")
        return cls(**values)


class Tokenizer(nn.Module):
    """Common part of both protocols: a name, a grid, a content hash."""

    name: str
    sample_rate: int
    hop_length: int
    left_context: int
    right_context: int
    encodes_in_windows = False  # of its own, at fixed places of the clip, in memory that does not grow with the clip's length
    precision = torch.float32  # of matrix products while encoding; lower only where a user asks, and no part of the identity

    folder: Path | None = None  # it was loaded from, if from a saved one

    def at_precision(self, device: torch.device) -> torch.autocast:
        """What ``encode`` is to run under."""
        return torch.autocast(device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values from which the registry builds the same tokenizer again, ``name`` among them."""

    @property
    @abstractmethod
    def identity(self) -> TokenizerIdentity: ...

    def content_hash(self) -> str:
        """SHA-256 of the configuration and of every tensor, by name; computed anew at each call.

        Half-precision copies hash as what they are stored as, so a tokenizer is saved in the precision it runs in.
        """
        digest = hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def num_tokens(self, num_samples: int) -> int:
        """Tokens of a clip of ``num_samples`` at ``sample_rate``; the last may be partly padding."""
        return ceil_division(num_samples, self.hop_length)

    def settled(self, num_samples: int) -> int:
        """How many tokens of a clip stay as they are whatever follows its first ``num_samples``."""
        return max(0, num_samples - self.right_context) // self.hop_length

    def kept_of_prompt(self, num_samples: int) -> int:
        """How many tokens a continuation goes on from: the settled ones, or more where those after them hardly ever change."""
        return self.settled(num_samples)

    def heard_from(self, first: int) -> int:
        """The token at whose first sample a clip may be cut off, and tokens ``first``.. are still those of the whole clip."""
        return max(0, first - ceil_division(self.left_context, self.hop_length))


class AcousticTokenizer(Tokenizer):
    """Audio to codes and back."""

    num_codebooks: int
    codebook_size: int

    @abstractmethod
    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``wav (B, T)`` float32 in -1..1 at ``sample_rate``, ``lengths (B,)`` samples -> codes ``(B, T_f, Q)`` int64, lengths."""

    @abstractmethod
    def decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Codes ``(B, T_f, Q)`` of the first Q codebooks, ``lengths (B,)`` frames -> wav ``(B, T_f * hop_length)`` float32."""

    def codebook_vectors(self) -> Tensor | None:
        """What the codes of every codebook stand for, ``(Q, K, D)``, where they are vectors of one space."""
        return None

    @property
    def identity(self) -> TokenizerIdentity:
        return TokenizerIdentity(
            kind="acoustic", name=self.name, sha256=self.content_hash(), sample_rate=self.sample_rate, hop_length=self.hop_length,
            num_codebooks=self.num_codebooks, codebook_size=self.codebook_size,
            left_context=self.left_context, right_context=self.right_context,
        )  # fmt: skip


class SemanticTokenizer(Tokenizer):
    """Audio to units."""

    num_units: int

    @abstractmethod
    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``wav (B, T)`` float32 in -1..1 at ``sample_rate``, ``lengths (B,)`` samples -> units ``(B, T_u)`` int64, lengths."""

    @property
    def identity(self) -> TokenizerIdentity:
        return TokenizerIdentity(
            kind="semantic", name=self.name, sha256=self.content_hash(), sample_rate=self.sample_rate, hop_length=self.hop_length,
            num_codebooks=1, codebook_size=self.num_units, left_context=self.left_context, right_context=self.right_context,
        )  # fmt: skip
