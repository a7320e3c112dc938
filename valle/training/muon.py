"""Muon for the matrices inside the layers, AdamW for embeddings, heads, norms and biases, as one optimizer.

Muon (Jordan et al. 2024) moves a matrix by its momentum with all singular values made equal; at the update size of Moonlight
(Liu et al. 2025, section 2.2) it takes AdamW's own learning rate and weight decay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from valle.errors import UserError
from valle.modules.conformer import Conformer
from valle.modules.transformer import Transformer

STACKS = (Transformer, Conformer)  # whose linear layers are hidden ones
MOMENTUM = 0.95


class MuonWithAdamW(torch.optim.Optimizer):
    """Groups with ``"muon": True`` hold matrices that torch's ``Muon`` moves; its ``AdamW`` moves the others."""

    def __init__(self, groups: Sequence[dict[str, Any]], *, lr: float, betas: tuple[float, float], fused: bool) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(f"--optimizer-name Muon needs torch 2.9 or newer, found {torch.__version__}; install it, or use AdamW")
        matrices = [group for group in groups if group["muon"]]
        others = [group for group in groups if not group["muon"]]
        self._inner: list[tuple[bool, torch.optim.Optimizer]] = []
        if matrices:
            muon = torch.optim.Muon(matrices, lr=lr, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
            self._inner.append((True, muon))
        if others:
            self._inner.append((False, torch.optim.AdamW(others, lr=lr, betas=betas, fused=fused)))
        super().__init__([group for _, inner in self._inner for group in inner.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else torch.enable_grad()(closure)()
        for is_muon, inner in self._inner:  # both see this optimizer's groups and state, which loading a checkpoint replaces
            inner.param_groups = [group for group in self.param_groups if group["muon"] == is_muon]
            inner.state = self.state
            inner.step()
        return loss


def hidden_matrices(model: nn.Module) -> set[Tensor]:
    """The weights of the linear layers inside stacks of layers: no embeddings, no heads."""
    stacks = [module for module in model.modules() if isinstance(module, STACKS)]
    return {layer.weight for stack in stacks for layer in stack.modules() if isinstance(layer, nn.Linear)}
