"""Sizes of ``joint-lm``, and the configurations of released text models that it is grown from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from valle.errors import UserError
from valle.models.vocabulary import Vocabulary
from valle.modules.gated_transformer import GatedConfig
from valle.modules.transformer import TransformerConfig

MOST = 2**20


@dataclass(frozen=True, kw_only=True)
class JointLMConfig:
    """``num_units`` 0 is a text LM; ``body`` is this project's transformer or, ``gated``, that of released text models.

    ``num_pieces`` counts the rows that the text LM's table has, which may be more than its tokenizer uses.
    """

    d_model: int = 256
    nhead: int = 4
    num_layers: int = 6
    dim_feedforward: int = 1024
    dropout: float = 0.0
    body: Literal["transformer", "gated"] = "transformer"
    num_kv_heads: int = 0
    head_dim: int = 0
    norm_eps: float = 1e-5
    rotary_base: float = 10000.0
    qkv_bias: bool = False
    tied: bool = True  # one table for input and output
    num_pieces: int = 1000
    num_units: int = 0

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if hint is int and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST):
                raise UserError(f"expected a whole number of at most {MOST} for {name} of joint-lm, found {value!r}")
            if hint is float and not isinstance(value, (int, float)):
                raise UserError(f"expected a number for {name} of joint-lm, found {value!r}")
        if self.body not in ("transformer", "gated"):
            raise UserError(f"the body of joint-lm must be transformer or gated, found {self.body!r}")
        if self.num_pieces < 1:
            raise UserError(f"expected 1 text piece or more, found {self.num_pieces}")
        self.transformer()

    @classmethod
    def from_fields(cls, values: Any) -> JointLMConfig:
        """The configuration that a file holds; raises ``UserError`` for other fields."""
        known = {entry.name for entry in fields(cls)}
        if not isinstance(values, Mapping) or not set(values) <= known:
            raise UserError(f"expected the fields of a joint-lm, found {sorted(values) if isinstance(values, Mapping) else values!r}")
        return cls(**values)

    @property
    def vocabulary(self) -> Vocabulary:
        """Text first, as the text LM has it; what it did not have follows from its table's end: specials, then units."""
        return Vocabulary((("pieces", self.num_pieces), ("bos", 1), ("eos", 1), ("then", 1), ("units", self.num_units)))

    def transformer(self) -> TransformerConfig:
        """Sizes of the stack."""
        sizes = {name: getattr(self, name) for name in ("d_model", "nhead", "num_layers", "dim_feedforward", "dropout")}
        if self.body == "transformer":
            return TransformerConfig(**sizes)
        return GatedConfig(
            **sizes, num_kv_heads=self.num_kv_heads or self.nhead, head_dim=self.head_dim or self.d_model // self.nhead,
            norm_eps=self.norm_eps, rotary_base=self.rotary_base, qkv_bias=self.qkv_bias,
        )  # fmt: skip


# The shape of LLaMA-7B (Touvron et al. 2023, table 2), untied, whose 32 000 pieces and bodies make 6,738,415,616 parameters; joined by
# AudioPaLM's 1024 units (Rubenstein et al. 2023, 4.1) and three specials.  PaLM-2 8B, which the paper grew, is unpublished.
LLAMA_7B = JointLMConfig(
    d_model=4096, nhead=32, num_layers=32, dim_feedforward=11008, body="gated", norm_eps=1e-6, tied=False, num_pieces=32000, num_units=1024
)
