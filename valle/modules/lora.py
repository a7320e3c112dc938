"""LoRA on the attention of a language model (Hu et al. 2021, 4.1), by ``peft``: a change of low rank beside each of q, k, v and o.

The blocks hold q, k and v as one matrix; they are held apart while they are changed, so that each has a change of its own rank, and put
together again when the changes are added to the weights, for decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from valle.errors import UserError
from valle.modules.transformer import Transformer

TARGETS = ("q", "k", "v", "out")


class SplitProjection(nn.Module):
    """The layer ``qkv`` as three, whose outputs stand one after another."""

    def __init__(self, qkv: nn.Linear, sizes: Sequence[int]) -> None:
        super().__init__()
        weights = qkv.weight.detach().split(list(sizes))
        biases: Sequence[Tensor | None] = [None] * len(sizes) if qkv.bias is None else qkv.bias.detach().split(list(sizes))
        self.q, self.k, self.v = (_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """``x (B, S, D)`` -> ``(B, S, Q + K + V)``."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], -1)

    def joined(self) -> nn.Linear:
        """The one layer."""
        layers = [self.q, self.k, self.v]
        biases = [layer.bias for layer in layers if layer.bias is not None]
        weight = torch.cat(tuple(layer.weight for layer in layers))
        return _linear(weight, torch.cat(tuple(biases)) if biases else None)


def add_lora(transformer: Transformer, *, rank: int, alpha: float) -> None:
    """Give every block's q, k, v and output a change of ``rank``, which is nothing at first and counts ``alpha / rank`` times.

    The changes alone require gradients; their names end in ``lora_A.default.weight`` and ``lora_B.default.weight``.
    """
    peft = _peft()
    for block in transformer.blocks:
        queries = block.out.in_features
        others = (block.qkv.out_features - queries) // 2
        block.qkv = SplitProjection(block.qkv, (queries, others, others))  # type: ignore[assignment]
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS)), transformer)


@torch.no_grad()
def merge_lora(transformer: Transformer) -> None:
    """Add the changes to the weights; the blocks are as they were before ``add_lora``."""
    for block in transformer.blocks:
        for parent, name in ((block.qkv, "q"), (block.qkv, "k"), (block.qkv, "v"), (block, "out")):
            layer: Any = getattr(parent, name)
            layer.merge()
            setattr(parent, name, layer.get_base_layer())
        block.qkv = block.qkv.joined()  # type: ignore[operator]


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def _peft() -> Any:
    """Here, since it takes seconds to import and few need it."""
    try:
        import peft
    except ImportError as error:
        raise UserError(f"expected the package peft for LoRA, found none ({error}); pip install 'valle[lora]'") from error
    return peft
