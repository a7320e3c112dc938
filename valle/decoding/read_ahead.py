"""What is done of a row before its prompt has ended: inputs that are read, and noise that is drawn, while the prompt still comes in.

    ahead = Ahead()
    ahead.read("coarse", transformer, inputs)   # again and again, with more inputs
    request = DecodingRequest(..., ahead=ahead.windows.get("coarse"))

It belongs to one stream, and no token depends on it: what it holds is used only where it is what the row needs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from valle.decoding.sampling import DrawnNoise
from valle.decoding.steps import TorchSteps
from valle.modules.transformer import LayerCache, Transformer

SAME = 8  # roundings of the largest input by which an input may differ: a product of more rows may round otherwise


class ReadAhead:
    """The window of one row, from its first input on, in which every input sees those before it.

    Inputs that come again are not read again.
    """

    def __init__(self, transformer: Transformer) -> None:
        self._steps = TorchSteps(transformer, 1, prepared=False)
        self._inputs: Tensor | None = None  # (S, D) of which the cache is

    @property
    def caches(self) -> list[LayerCache]:
        """Keys and values of all inputs that were read last."""
        length = 0 if self._inputs is None else len(self._inputs)
        return [cache.up_to(length) for cache in self._steps.caches]

    def read(self, inputs: Tensor) -> Tensor:
        """``inputs (S, D)``, the whole window so far -> hidden ``(D,)`` of the last one, which is always read."""
        known = self.known(inputs[:-1])
        self._steps.reserve(len(inputs))
        slots = torch.tensor([known], device=inputs.device)
        hidden = self._steps.step(inputs[None, known:], [known], slots)
        self._inputs = inputs
        return hidden[0, -1]

    def known(self, inputs: Tensor) -> int:
        """How many of ``inputs (S, D)``, from the first on, have been read already."""
        if self._inputs is None:
            return 0
        number = min(len(inputs), len(self._inputs))
        new, old = inputs[:number], self._inputs[:number]
        near = SAME * torch.finfo(old.dtype).eps * old.abs().max() if number else 0.0
        return int(((new - old).abs() <= near).all(1).long().cumprod(0).sum())


class Ahead:
    """All that is done ahead for one row."""

    def __init__(self) -> None:
        self.windows: dict[str, ReadAhead] = {}  # by the name of the stage
        self.noise = DrawnNoise()

    def read(self, stage: str, transformer: Transformer, inputs: Tensor) -> None:
        """What is known of the window ``(S, D)`` with which ``stage`` begins."""
        if stage not in self.windows:
            self.windows[stage] = ReadAhead(transformer)
        self.windows[stage].read(inputs)
