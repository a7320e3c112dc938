"""Sizes of ``conversation``: a transformer over text pieces and frames of sound, and one over the levels of a frame (CSM, Sesame 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from valle.errors import UserError
from valle.models.vocabulary import Vocabulary
from valle.modules.depth import DepthConfig
from valle.modules.gated_transformer import GatedConfig
from valle.modules.transformer import TransformerConfig

MOST = 2**20


@dataclass(frozen=True, kw_only=True)
class ConversationConfig:
    """``body`` is this project's transformers, as of ``rq``, or, ``gated``, those of CSM.

    ``spare_codes`` are rows behind the codec's in the tables of codes; the first of level 0 is the end of a turn.
    """

    d_model: int = 256
    nhead: int = 4
    num_layers: int = 4
    dim_feedforward: int = 1024
    dropout: float = 0.0
    body: Literal["transformer", "gated"] = "transformer"
    num_kv_heads: int = 0
    norm_eps: float = 1e-5
    rotary_base: float = 10000.0
    depth_dim: int = 128
    depth_nhead: int = 2
    depth_num_layers: int = 2
    depth_dim_feedforward: int = 0  # 0: 4 times the width, as always without a gated body
    depth_num_kv_heads: int = 0
    num_pieces: int = 1000
    num_levels: int = 8
    codebook_size: int = 256
    spare_codes: int = 1

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if hint is int and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST):
                raise UserError(f"expected a whole number of at most {MOST} for {name} of a conversation model, found {value!r}")
            if hint is float and not isinstance(value, (int, float)):
                raise UserError(f"expected a number for {name} of a conversation model, found {value!r}")
        if self.body not in ("transformer", "gated"):
            raise UserError(f"the body of a conversation model must be transformer or gated, found {self.body!r}")
        for name, least in (("num_levels", 2), ("codebook_size", 1), ("num_pieces", 1), ("spare_codes", 1)):
            if getattr(self, name) < least:
                raise UserError(f"expected {name} of {least} or more in a conversation model, found {getattr(self, name)}")
        self.transformer()
        self.depth()

    @classmethod
    def from_fields(cls, values: Any) -> ConversationConfig:
        """The configuration that a file holds; raises ``UserError`` for other fields."""
        known = {entry.name for entry in fields(cls)}
        if not isinstance(values, Mapping) or not set(values) <= known:
            found = sorted(values) if isinstance(values, Mapping) else values
            raise UserError(f"expected the fields of a conversation model, found {found!r}")
        return cls(**values)

    @property
    def vocabulary(self) -> Vocabulary:
        """Of text."""
        return Vocabulary((("pieces", self.num_pieces), ("bos", 1), ("eos", 1)))

    @property
    def num_codes(self) -> int:
        """Rows of a level's table, the spare ones among them."""
        return self.codebook_size + self.spare_codes

    @property
    def end(self) -> int:
        """The code of level 0 that ends a turn."""
        return self.codebook_size

    @property
    def missing(self) -> int:
        """The number of a code that is not there."""
        return self.num_codes

    def transformer(self) -> TransformerConfig:
        """Sizes of the stack over time."""
        sizes = {name: getattr(self, name) for name in ("d_model", "nhead", "num_layers", "dim_feedforward", "dropout")}
        if self.body == "transformer":
            return TransformerConfig(**sizes)
        return GatedConfig(
            **sizes, num_kv_heads=self.num_kv_heads or self.nhead, head_dim=self.d_model // max(1, self.nhead),
            norm_eps=self.norm_eps, rotary_base=self.rotary_base,
        )  # fmt: skip

    def depth(self) -> DepthConfig | GatedConfig:
        """Sizes of the stack over the levels above 0."""
        if self.body == "gated":
            return GatedConfig(
                d_model=self.depth_dim, nhead=self.depth_nhead, num_layers=self.depth_num_layers,
                dim_feedforward=self.depth_dim_feedforward or 4 * self.depth_dim, dropout=self.dropout,
                num_kv_heads=self.depth_num_kv_heads or self.depth_nhead, head_dim=self.depth_dim // max(1, self.depth_nhead),
                norm_eps=self.norm_eps, rotary_base=self.rotary_base,
            )  # fmt: skip
        return DepthConfig(
            frame_dim=self.d_model, dim=self.depth_dim, nhead=self.depth_nhead, num_layers=self.depth_num_layers,
            num_levels=self.num_levels - 1, codebook_size=self.codebook_size, learned_start=False, dropout=self.dropout,
        )  # fmt: skip


# CSM-1B as released (sesame/csm-1b): Llama 3.2's 1B and 100M shapes, 128 256 rows of text, BOS and EOS among them, and 32 codebooks of
# Mimi, whose tables have 3 rows behind the 2048 codes.  The public code ends a turn by a frame of zeros; the end as a row is ours.
CSM_1B = ConversationConfig(
    d_model=2048, nhead=32, num_layers=16, dim_feedforward=8192, body="gated", num_kv_heads=8, rotary_base=500000.0,
    depth_dim=1024, depth_nhead=8, depth_num_layers=4, depth_dim_feedforward=8192, depth_num_kv_heads=2,
    num_pieces=128254, num_levels=32, codebook_size=2048, spare_codes=3,
)  # fmt: skip
