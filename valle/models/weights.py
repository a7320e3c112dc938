"""Weights that come from elsewhere: do they fit, before memory is taken for them?"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from valle.errors import UserError


def refuse_unfitting(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises ``UserError`` unless ``weights`` have the names and shapes of ``wanted``, which may be on the meta device, and are finite."""
    for name in sorted(wanted.keys() | weights.keys()):
        here, there = (f"shape {tuple(part[name].shape)}" if name in part else "nothing" for part in (wanted, weights))
        if here != there:
            raise UserError(f"the weights do not fit the settings: expected {here} for {name}, found {there}")
        if not weights[name].isfinite().all():
            raise UserError(f"the weights {name} are not finite")
