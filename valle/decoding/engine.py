"""Cached autoregressive decoding of ragged batches, for any model that offers ``Autoregressor``.

A row's tokens depend on its own prompt and seed only: rows may have prompts of different lengths, stop at
different times, and slide their windows at different steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from valle.decoding.sampling import RowNoise, Sampling, sample
from valle.modules.transformer import Attend, Step, Transformer


class Autoregressor(Protocol):
    """What the engine asks of a model; tokens of a row are counted from its prompt's first."""

    transformer: Transformer
    end_token: int | None  # a sampled one stops the row

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


class Decoder:
    """The state of one request: tokens so far, caches, and where every row stands in them."""

    def __init__(self, model: Autoregressor, request: DecodingRequest) -> None:
        self.model, self.request = model, request
        self.batch = len(request.prompts)
        device = model.transformer.blocks[0].qkv.weight.device
        self.device = device
        self.known = [len(prompt) for prompt in request.prompts]  # tokens a row, prompt included
        self.limit = [known + new for known, new in zip(self.known, request.max_new, strict=True)]
        self.tokens = torch.zeros(self.batch, max(self.limit, default=0) + 1, dtype=torch.int64, device=device)
        for row, prompt in enumerate(request.prompts):
            self.tokens[row, : len(prompt)] = prompt
        self.start = [self._first_start(known) for known in self.known]
        self.filled = [0] * self.batch  # cached positions a row
        self.caches = model.transformer.new_caches(self.batch, 0)
        self.capacity = 0
        self.rows = torch.arange(self.batch, device=device)
        self.ended = [new <= 0 for new in request.max_new]

    def run(self) -> list[Tensor]:
        """Draw until every row has ended or reached its limit -> new tokens of each row, without the end token."""
        request, model = self.request, self.model
        if self.batch == 0 or max(request.max_new) <= 0:
            return [self.tokens[row, :0] for row in range(self.batch)]
        hidden = self._prefill(range(self.batch))
        noise: RowNoise | None = None
        ended = self.ended
        stop = list(self.known)
        while True:
            logits = model.logits(hidden, self._positions())
            noise = noise or RowNoise(list(request.seeds), logits.shape[-1], self.device)
            drawn = sample(self._hold_end(logits), request.sampling, noise, self._recent())
            self.tokens[self.rows, self._positions()] = drawn
            end_drawn = (drawn == model.end_token).tolist() if model.end_token is not None else [False] * self.batch
            inputs = model.next_inputs(drawn, self._positions())
            for row in range(self.batch):
                if ended[row]:
                    continue
                self.known[row] += 1  # an ended row's later draws fall past its stop
                stop[row] += not end_drawn[row]
                ended[row] = end_drawn[row] or stop[row] == self.limit[row]
            if all(ended):
                return [self.tokens[row, len(request.prompts[row]) : stop[row]].clone() for row in range(self.batch)]
            sliding = [row for row in range(self.batch) if not ended[row] and self.known[row] - self.start[row] >= request.window]
            hidden = self._step(inputs)
            if sliding:
                for row in sliding:
                    self.start[row] = model.window_start(self.known[row], request.window)
                hidden[torch.tensor(sliding, device=self.device)] = self._prefill(sliding)

    def _first_start(self, known: int) -> int:
        return self.model.window_start(known, self.request.window) if known >= self.request.window else 0

    def _positions(self) -> Tensor:
        return torch.tensor(self.known, device=self.device)

    def _recent(self) -> Tensor | None:
        window = self.request.sampling.repetition_window
        if window == 0:
            return None
        index = self._positions()[:, None] - 1 - torch.arange(window, device=self.device)
        return torch.where(index >= 0, self.tokens.gather(1, index.clamp(min=0)), -1)

    def _hold_end(self, logits: Tensor) -> Tensor:
        end, minimum = self.model.end_token, self.request.min_new
        if end is None or minimum is None:
            return logits
        early = [known - len(prompt) < least for known, prompt, least in zip(self.known, self.request.prompts, minimum, strict=True)]
        if any(early):
            logits = logits.clone()
            logits[torch.tensor(early, device=self.device), end] = -torch.inf
        return logits

    def _prefill(self, rows: Sequence[int]) -> Tensor:
        """Run the windows of ``rows`` from their starts and cache them -> last hidden ``(len(rows), D)``."""
        inputs = [self.model.window_inputs(row, self.start[row], self.tokens[row, self.start[row] : self.known[row]]) for row in rows]
        lengths = torch.tensor([len(row) for row in inputs], device=self.device)
        padded = pad_sequence(inputs, batch_first=True)  # (b, S, D)
        self._reserve(padded.shape[1] + self.request.window)
        caches = self.model.transformer.new_caches(len(inputs), padded.shape[1])
        hidden = self.model.transformer(padded, self.model.attend_window(lengths, padded.shape[1]), caches=caches)
        index = torch.tensor(list(rows), device=self.device)
        for ours, fresh in zip(self.caches, caches, strict=True):
            ours.keys[index, :, : padded.shape[1]] = fresh.keys
            ours.values[index, :, : padded.shape[1]] = fresh.values
        for row, length in zip(rows, lengths.tolist(), strict=True):
            self.filled[row] = length
        return hidden[torch.arange(len(inputs), device=self.device), lengths - 1]

    def _step(self, inputs: Tensor) -> Tensor:
        """Feed one input a row, ``(B, D)`` -> hidden ``(B, D)``."""
        self._reserve(max(self.filled) + 1)
        cos, sin = self.model.transformer.rotary(torch.tensor(self.filled, device=self.device)[:, None, None], inputs.dtype)
        extent = max(self.filled) + 1
        if min(self.filled) + 1 == extent:
            step = Step(cos=cos, sin=sin, extent=extent, slot=extent - 1)
        else:
            slots = torch.tensor(self.filled, device=self.device)
            hidden = torch.arange(extent, device=self.device) > slots[:, None]
            bias = torch.zeros(hidden.shape, device=self.device, dtype=inputs.dtype).masked_fill(hidden, -torch.inf)
            step = Step(cos=cos, sin=sin, extent=extent, slot=None, rows=self.rows, slots=slots, bias=bias[:, None, None])
        self.filled = [filled + (not done) for filled, done in zip(self.filled, self.ended, strict=True)]
        return self.model.transformer.step(inputs[:, None], step, self.caches)[:, 0]

    def _reserve(self, capacity: int) -> None:
        if capacity <= self.capacity:
            return
        capacity = -(-capacity // 64) * 64
        grown = self.model.transformer.new_caches(self.batch, capacity)
        for old, new in zip(self.caches, grown, strict=True):
            new.keys[:, :, : self.capacity] = old.keys
            new.values[:, :, : self.capacity] = old.values
        self.caches, self.capacity = grown, capacity


@torch.inference_mode()
def decode(model: Autoregressor, request: DecodingRequest) -> list[Tensor]:
    """New tokens ``(n_b,)`` int64 of every row: until a sampled end token (left out) or ``max_new`` exactly."""
    return Decoder(model, request).run()
