"""Cached autoregressive decoding of ragged batches, for any model that offers ``Autoregressor``.

A row's tokens depend on its own prompt and seed only: rows may have prompts of different lengths, stop at
different times, and slide their windows at different steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from valle.decoding.sampling import RowNoise, Sampling, sample
from valle.modules.transformer import Attend, Step, Transformer

CACHE_BLOCK = 64  # capacities are multiples of it


class Autoregressor(Protocol):
    """What the engine asks of a model; tokens of a row are counted from its prompt's first."""

    transformer: Transformer

    @property
    def end_token(self) -> int | None:
        """A sampled one stops the row."""
        ...

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        """Embedded inputs ``(S, D)`` of a window that begins at token ``start`` and holds ``tokens (n,)``; the last predicts the next."""
        ...

    def next_inputs(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embedded inputs ``(B, D)`` made of ``tokens (B,)``, the row's tokens number ``positions (B,)`` just drawn."""
        ...

    def logits(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """``hidden (B, D)`` -> logits ``(B, V)`` of the rows' tokens number ``positions (B,)``."""
        ...

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        """Who sees whom within a window of ``lengths (B,)`` inputs."""
        ...

    def window_start(self, num_tokens: int, window: int) -> int:
        """First token of the window that takes over when ``num_tokens`` are known."""
        ...


@dataclass(frozen=True)
class DecodingRequest:
    """Prompts and limits of a batch of rows."""

    prompts: Sequence[Tensor]  # (n_b,) int64 each
    max_new: Sequence[int]  # tokens a row
    seeds: Sequence[int]
    sampling: Sampling
    window: int  # tokens after which a row's window slides: the length that was trained
    min_new: Sequence[int] | None = None  # tokens before which the end is not drawn

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.max_new) == len(self.seeds) == len(self.min_new or self.prompts):
            raise ValueError(f"expected limits and seeds for {len(self.prompts)} prompts, found {len(self.max_new)} and {len(self.seeds)}")
        if self.window < 2:
            raise ValueError(f"a window that slides by half must hold at least 2 tokens, found {self.window}")


class Decoder:
    """The state of one request: tokens so far, caches, and where every row stands in them.

    All rows take every step; what a row draws after its end falls behind its stop and is cut off.  The host counts
    in integers and looks at the device once a token, for the end token, and not at all where there is none.
    """

    def __init__(self, model: Autoregressor, request: DecodingRequest) -> None:
        self.model, self.request = model, request
        self.batch = len(request.prompts)
        self.device = model.transformer.device
        self.known = [len(prompt) for prompt in request.prompts]  # tokens a row, prompt included
        self.limit = [known + new for known, new in zip(self.known, request.max_new, strict=True)]
        self.tokens = torch.zeros(self.batch, max(self.known) + max(request.max_new) + 1, dtype=torch.int64, device=self.device)
        for row, prompt in enumerate(request.prompts):
            self.tokens[row, : len(prompt)] = prompt
        self.rows = torch.arange(self.batch, device=self.device)
        self.position = torch.tensor(self.known, device=self.device)  # of the token to be drawn, as ``known``
        self.ended = [new <= 0 for new in request.max_new]
        self.start = [model.window_start(known, request.window) if known >= request.window else 0 for known in self.known]
        self.layers = model.transformer.ready_for_steps(self.batch)
        self.caches = model.transformer.new_caches(self.batch, 0)
        self.capacity = 0
        self.filled = [0] * self.batch  # cached positions a row
        self.slots = torch.zeros_like(self.position)  # the same on the device

    def run(self) -> list[Tensor]:
        """Draw until every row has ended or reached its limit -> new tokens of each row, without the end token."""
        request, model = self.request, self.model
        hidden = self._prefill(range(self.batch))
        noise: RowNoise | None = None
        stop = list(self.known)
        while not all(self.ended):
            logits = self._hold_end(model.logits(hidden, self.position))
            noise = noise or RowNoise(list(request.seeds), logits.shape[-1], self.device)
            drawn = sample(logits, request.sampling, noise, self._recent())
            self.tokens[self.rows, self.position] = drawn
            # Not the likeliest token: only what was drawn may end a row.
            end_drawn = (drawn == model.end_token).tolist() if model.end_token is not None else [False] * self.batch
            still = sum(self.ended)
            for row in range(self.batch):
                self.known[row] += 1
                if not self.ended[row]:
                    stop[row] += not end_drawn[row]
                    self.ended[row] = end_drawn[row] or stop[row] == self.limit[row]
            if sum(self.ended) > still:
                self._level_ended()
            if not all(self.ended):
                inputs = model.next_inputs(drawn, self.position)
                self.position += 1
                hidden = self._advance(inputs)
        return [self.tokens[row, len(prompt) : stop[row]].clone() for row, prompt in enumerate(request.prompts)]

    def _advance(self, inputs: Tensor) -> Tensor:
        """Hidden ``(B, D)`` of the next position: a cached step, or a window anew for rows that have filled theirs."""
        request, model = self.request, self.model
        sliding = [row for row in range(self.batch) if not self.ended[row] and self.known[row] - self.start[row] >= request.window]
        step_is_needed = len(sliding) < self.batch - sum(self.ended)
        hidden = self._step(inputs) if step_is_needed else torch.zeros_like(inputs)
        if sliding:
            for row in sliding:
                self.start[row] = model.window_start(self.known[row], request.window)
            hidden[torch.tensor(sliding, device=self.device)] = self._prefill(sliding)
        return hidden

    def _recent(self) -> Tensor | None:
        window = self.request.sampling.repetition_window
        if window == 0:
            return None
        index = self.position[:, None] - 1 - torch.arange(window, device=self.device)
        return torch.where(index >= 0, self.tokens.gather(1, index.clamp(min=0)), -1)

    def _hold_end(self, logits: Tensor) -> Tensor:
        end, minimum = self.model.end_token, self.request.min_new
        if end is None or minimum is None:
            return logits
        prompts = [len(prompt) for prompt in self.request.prompts]
        early = [known - prompt < least for known, prompt, least in zip(self.known, prompts, minimum, strict=True)]
        if any(early):
            logits[torch.tensor(early, device=self.device), end] = -torch.inf
        return logits

    def _prefill(self, rows: Sequence[int]) -> Tensor:
        """Run the windows of ``rows`` from their starts and cache them -> last hidden ``(len(rows), D)``."""
        inputs = [self.model.window_inputs(row, self.start[row], self.tokens[row, self.start[row] : self.known[row]]) for row in rows]
        lengths = torch.tensor([len(row) for row in inputs], device=self.device)
        padded = pad_sequence(inputs, batch_first=True)  # (b, S, D)
        remaining = max(limit - known for limit, known in zip(self.limit, self.known, strict=True))
        self._reserve(padded.shape[1] + min(self.request.window, remaining))
        caches = self.model.transformer.new_caches(len(inputs), padded.shape[1])
        hidden = self.model.transformer(padded, self.model.attend_window(lengths, padded.shape[1]), caches=caches)
        index = torch.tensor(list(rows), device=self.device)
        for ours, fresh in zip(self.caches, caches, strict=True):
            ours.keys[index, :, : padded.shape[1]] = fresh.keys
            ours.values[index, :, : padded.shape[1]] = fresh.values
        for row, length in zip(rows, lengths.tolist(), strict=True):
            self.filled[row] = length
        self._level_ended()
        return hidden[torch.arange(len(inputs), device=self.device), lengths - 1]

    def _level_ended(self) -> None:
        """Ended rows stand where one that goes on stands, so that they neither fill the cache nor break the common step."""
        place = next((filled for filled, ended in zip(self.filled, self.ended, strict=True) if not ended), 0)
        self.filled = [place if ended else filled for filled, ended in zip(self.filled, self.ended, strict=True)]
        self.slots = torch.tensor(self.filled, device=self.device)

    def _step(self, inputs: Tensor) -> Tensor:
        """Feed one input a row, ``(B, D)`` -> hidden ``(B, D)``."""
        extent = max(self.filled) + 1
        self._reserve(extent)
        if min(self.filled) + 1 == extent:
            step = Step(cos=self.cos[extent - 1], sin=self.sin[extent - 1], extent=extent, slot=extent - 1)
        else:
            unseen = torch.arange(extent, device=self.device) > self.slots[:, None]
            bias = torch.zeros(unseen.shape, device=self.device, dtype=inputs.dtype).masked_fill(unseen, -torch.inf)[:, None, None]
            cos, sin = (table[self.slots][:, None, None] for table in (self.cos, self.sin))
            step = Step(cos=cos, sin=sin, extent=extent, slot=None, rows=self.rows, slots=self.slots, bias=bias)
        hidden = self.model.transformer.step(inputs[:, None], step, self.caches, self.layers)[:, 0]
        self.filled = [filled + 1 for filled in self.filled]
        self.slots += 1
        return hidden

    def _reserve(self, capacity: int) -> None:
        if capacity <= self.capacity:
            return
        capacity = -(-capacity // CACHE_BLOCK) * CACHE_BLOCK
        grown = self.model.transformer.new_caches(self.batch, capacity)
        for old, new in zip(self.caches, grown, strict=True):
            new.keys[:, :, : self.capacity] = old.keys
            new.values[:, :, : self.capacity] = old.values
        self.caches, self.capacity = grown, capacity
        self.cos, self.sin = self.model.transformer.rotary(torch.arange(capacity, device=self.device), grown[0].keys.dtype)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout, whatever mode the model is in; its mode is put back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@torch.inference_mode()
def decode(model: Autoregressor, request: DecodingRequest) -> list[Tensor]:
    """New tokens ``(n_b,)`` int64 of every row: until a sampled end token (left out) or ``max_new`` exactly."""
    if not request.prompts or max(request.max_new) <= 0:
        return [prompt[:0] for prompt in request.prompts]
    with evaluating(model.transformer):
        return Decoder(model, request).run()
