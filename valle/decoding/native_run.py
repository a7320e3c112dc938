"""Runs of the native step: many tokens in one call, each drawn, looked up and fed by the kernel (``native_kernels.run_tokens``).

A call draws until a row ends, slides its window or has used up its block of noise.  The noise is the rows' own, so that tokens are those
of a step at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from valle.decoding.native import Array, NativeSteps, filled_up, in_panels
from valle.decoding.sampling import NOISE_BLOCK, Noise, Sampling
from valle.decoding.seats import Seats
from valle.decoding.steps import StepEngine
from valle.decoding.tables import Tabulated, TokenTables

if TYPE_CHECKING:
    from valle.decoding.engine import Autoregressor, DecodingRequest


class NativeRuns:
    """What draws runs of tokens for one request."""

    @classmethod
    def of(cls, model: Autoregressor, steps: StepEngine, request: DecodingRequest) -> NativeRuns | None:
        """None where a model or its sampling is more than the kernel knows, or each token is wanted as soon as it is drawn."""
        sampling = request.sampling
        is_plain = sampling.top_k == 0 and sampling.top_p == 1 and sampling.drafts is None
        if not isinstance(steps, NativeSteps) or not isinstance(model, Tabulated) or not is_plain or request.forgets:
            return None
        if steps.packed.kind == "bfloat16":  # the kernel would not round where torch does, and tokens would depend on where a run ends
            return None
        return cls(model, steps, sampling, end_token=-1 if model.end_token is None else model.end_token)

    def __init__(self, model: Tabulated, steps: NativeSteps, sampling: Sampling, *, end_token: int) -> None:
        self.model, self.steps, self.end_token = model, steps, end_token
        self.greedy, self.window = sampling.greedy, sampling.repetition_window * model.tokens_a_frame
        self.noise_a_token = 0 if sampling.greedy else 2 if sampling.repetition_window else 1
        law = [0.0 if sampling.greedy else sampling.temperature, sampling.repetition_ratio * sampling.repetition_window, sampling.guidance]
        self.law = np.array(law, np.float32)
        self.seats: Seats | None = None
        self.embedding: tuple[Array, ...] | None = None
        self.drawing: tuple[Array, ...] = ()
        self.vocabulary = 0

    def draw(self, hidden: Tensor, seats: Seats, recent: Tensor, *, rooms: Sequence[int], early: Sequence[int], numbers: Sequence[int],
             positions: Sequence[int], filled: Sequence[int], noise: Noise) -> Tensor | None:  # fmt: skip
        """As ``Runs.draw`` says."""
        if seats is not self.seats:
            self._take(self.model.tables(seats))
            self.seats = seats
        if self.embedding is None:
            return None
        count = min(rooms)
        block, places = np.zeros((len(rooms), 1, 1), np.float32), [0] * len(rooms)
        if self.noise_a_token:
            stream = noise.stream(self.vocabulary)
            places = [number * self.noise_a_token % NOISE_BLOCK for number in numbers]
            count = min(count, *((NOISE_BLOCK - place) // self.noise_a_token for place in places))
            block = stream.blocks_of([number * self.noise_a_token for number in numbers]).numpy()
        self.steps.reserve(max(filled) + count)
        tokens = self.steps.run(
            count, hidden, positions=np.array(positions), filled=np.array(filled), embedding=self.embedding, drawing=self.drawing,
            law=self.law, end_token=self.end_token, early=np.array(early), recent=recent.contiguous().numpy().copy(),
            noise=block, noise_places=np.array(places),
        )  # fmt: skip
        return torch.from_numpy(tokens)

    def _take(self, tables: TokenTables | None) -> None:
        if tables is None:
            self.embedding = None
            return
        batch, dim = self.steps.batch, tables.inputs.shape[1]
        around = torch.zeros(batch, 1, dim) if tables.around is None else tables.around
        voices = torch.zeros(batch, dim) if tables.voices is None else tables.voices
        self.embedding = tuple(_array(tensor) for tensor in (tables.inputs, tables.places, around, voices))
        head, number = _array(tables.head), len(tables.bias)
        bias = np.zeros(filled_up(number), np.float32)
        bias[:number] = _array(tables.bias)
        logits = np.empty((batch, len(bias)), np.float32)
        self.drawing = (in_panels(head, head.shape[1]), np.ones_like(bias), bias, tables.allowed.numpy(), logits)
        self.vocabulary = number


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().float().numpy())
