"""Steps that can be captured: shapes that stay the same, no look at the device, sampling inside.

A cache has one of a few lengths (buckets), and every step attends to all of it under a mask, so that a step, and a run of several, are
the same graph of operations at every position: ``torch.compile(fullgraph=True)`` makes one of it, and on a GPU a CUDA graph replays it
without the host (as gpt-fast does).  The host looks at the tokens once a run.  The CUDA graph has not been run: no GPU was at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from valle.decoding.sampling import NOISE_BLOCK, Noise, Sampling, sample
from valle.decoding.seats import Seats
from valle.decoding.tables import Tabulated, TokenTables
from valle.modules.transformer import LayerCache, Step, Transformer

if TYPE_CHECKING:
    from valle.decoding.engine import Autoregressor, DecodingRequest

BACKEND = "inductor"  # of torch.compile
SMALLEST = 256  # positions of the smallest bucket; each next one is twice as long
RUN = 8  # tokens of a run


def bucket(length: int) -> int:
    """Positions of the cache that holds ``length``."""
    size = SMALLEST
    while size < length:
        size *= 2
    return size


class CapturedSteps:
    """The steps of one batch, compiled as one graph; steps of several positions are not."""

    def __init__(self, transformer: Transformer, batch: int) -> None:
        self.transformer, self.batch, self.device = transformer, batch, transformer.device
        self.rows = torch.arange(batch, device=self.device)[:, None]
        self.capacity = 0
        self.caches = transformer.new_caches(batch, 0)
        self.cos, self.sin = torch.empty(0), torch.empty(0)
        self.one = captured(self.advance)

    def reserve(self, capacity: int) -> None:
        if capacity <= self.capacity:
            return
        grown = self.transformer.new_caches(self.batch, bucket(capacity))
        for old, new in zip(self.caches, grown, strict=True):
            new.keys[:, :, : self.capacity] = old.keys
            new.values[:, :, : self.capacity] = old.values
        self.caches, self.capacity = grown, bucket(capacity)
        self.cos, self.sin = self.transformer.rotary(torch.arange(self.capacity, device=self.device), grown[0].keys.dtype)

    def write(self, rows: Sequence[int], windows: Sequence[LayerCache]) -> None:
        index = torch.tensor(list(rows), device=self.device)
        for ours, window in zip(self.caches, windows, strict=True):
            ours.keys[index, :, : window.keys.shape[2]] = window.keys
            ours.values[index, :, : window.keys.shape[2]] = window.values

    def step(self, inputs: Tensor, filled: Sequence[int], slots: Tensor) -> Tensor:
        return (self.one if inputs.shape[1] == 1 else self.advance)(inputs, slots, self.state())

    def state(self) -> tuple[Tensor, ...]:
        """What a step looks back to, keys and values of every layer first; written in place."""
        return (*(tensor for cache in self.caches for tensor in (cache.keys, cache.values)), self.cos, self.sin)

    def advance(self, inputs: Tensor, slots: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """``inputs (B, n, D)`` at the places ``slots (B,)`` and after -> hidden ``(B, n, D)``."""
        *layers, cos, sin = state
        caches: list[LayerCache] = [_Cache(keys, values) for keys, values in zip(layers[::2], layers[1::2], strict=True)]
        places = slots[:, None] + torch.arange(inputs.shape[1], device=inputs.device)  # (B, n)
        extent = layers[0].shape[2]
        unseen = torch.arange(extent, device=inputs.device) > places[..., None]  # (B, n, extent)
        bias = torch.zeros(unseen.shape, device=inputs.device, dtype=inputs.dtype).masked_fill(unseen, -torch.inf)[:, None]
        step = Step(
            cos=cos[places][:, None], sin=sin[places][:, None], extent=extent, slot=None, rows=self.rows, slots=places, bias=bias
        )  # fmt: skip
        return self.transformer.step(inputs, step, caches)


class _Cache(LayerCache):
    """Keys and values that are there."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values


class CapturedRuns:
    """Runs of ``RUN`` tokens a row for one request, each drawn, looked up and fed without the host."""

    @classmethod
    def of(cls, model: Autoregressor, steps: CapturedSteps, request: DecodingRequest) -> CapturedRuns | None:
        """None where a model is more than tables, its rows are drawn in pairs, or each token is wanted as soon as it is drawn."""
        if not isinstance(model, Tabulated) or request.sampling.is_guided or request.forgets:
            return None
        return cls(model, steps, request.sampling, end_token=model.end_token)

    def __init__(self, model: Tabulated, steps: CapturedSteps, sampling: Sampling, *, end_token: int | None) -> None:
        self.model, self.steps, self.sampling, self.end_token = model, steps, sampling, end_token
        self.window = sampling.repetition_window * model.tokens_a_frame
        self.noise_a_token = 0 if sampling.greedy else 2 if sampling.repetition_window else 1
        self.seats: Seats | None = None
        self.tables: TokenTables | None = None
        self.whole = captured(self.run)

    def draw(self, hidden: Tensor, seats: Seats, recent: Tensor, *, rooms: Sequence[int], early: Sequence[int], numbers: Sequence[int],
             positions: Sequence[int], filled: Sequence[int], noise: Noise) -> Tensor | None:  # fmt: skip
        """As ``Runs.draw`` says: ``(B, RUN)`` tokens, or None where fewer fit."""
        if seats is not self.seats:
            self.seats, self.tables = seats, self.model.tables(seats)
        each = max(self.noise_a_token, 1)
        places = [number * each % NOISE_BLOCK for number in numbers]
        if self.tables is None or min(rooms) < RUN or max(places) + RUN * each > NOISE_BLOCK:
            return None
        vectors = hidden.new_zeros(len(rooms), RUN, 0, 0)
        if self.noise_a_token:
            block = noise.stream(len(self.tables.bias)).blocks_of([number * each for number in numbers])
            vectors = torch.stack([rows[place : place + RUN * each] for rows, place in zip(block, places, strict=True)])
            vectors = vectors.unflatten(1, (RUN, each))  # (B, RUN, each, V)
        self.steps.reserve(max(filled) + RUN)
        tables, device = self.tables, hidden.device
        fixed = (tables.head, tables.bias, tables.inputs, tables.places, tables.allowed, tables.around, tables.voices)
        counts = torch.tensor([list(filled), list(positions), [min(count, NOISE_BLOCK) for count in early]], device=device)
        tokens: Tensor = self.whole(hidden, counts, recent, vectors, fixed, self.steps.state())
        return tokens

    def run(
        self, hidden: Tensor, counts: Tensor, recent: Tensor, noise: Tensor, fixed: tuple[Any, ...], state: tuple[Tensor, ...]
    ) -> Tensor:
        """From ``hidden (B, D)`` -> tokens ``(B, RUN)``, all but the last fed; no shape and no branch depends on what is drawn."""
        head, bias, inputs, level_inputs, allowed, around, voices = fixed
        slots, positions, early = counts
        rows, token_numbers = self.steps.rows[:, 0], torch.arange(len(bias), device=hidden.device)
        drawn: list[Tensor] = []
        for number in range(RUN):
            logits = torch.nn.functional.linear(hidden, head, bias.to(hidden.dtype))
            bounds = allowed[positions % len(allowed)]  # (B, 2)
            logits = logits.masked_fill((token_numbers < bounds[:, :1]) | (token_numbers >= bounds[:, 1:]), -torch.inf)
            if self.end_token is not None:
                logits = logits.masked_fill((token_numbers == self.end_token) & (early > number)[:, None], -torch.inf)
            token = sample(logits, self.sampling, _Vectors(noise[:, number]), recent if self.window else None)
            drawn.append(token)
            if number + 1 == RUN:
                break
            recent = torch.cat([token[:, None], recent[:, :-1]], 1) if self.window else recent
            positions = positions + 1
            x = inputs[token] + level_inputs[positions % len(allowed)]
            if around is not None:
                x = x + around[rows, (positions // len(allowed)).clamp(max=around.shape[1] - 1)]
            if voices is not None:
                x = x + voices
            hidden = self.steps.advance(x[:, None], slots, state)[:, 0]
            slots = slots + 1
        return torch.stack(drawn, 1)


class _Vectors:
    """Noise of one token ``(B, n, V)`` as ``sample`` asks for it."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def of_token(self, count: int) -> list[Tensor]:
        return [self.vectors[:, number] for number in range(count)]


def captured(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function`` as one graph, replayed by a CUDA graph where its first argument is on a GPU."""
    compiled = torch.compile(function, fullgraph=True, dynamic=False, backend=BACKEND)
    graphs: dict[tuple[Any, ...], CudaGraph] = {}

    def call(*arguments: Any) -> Tensor:
        if not (torch.cuda.is_available() and arguments[0].is_cuda):
            return compiled(*arguments)
        state = arguments[-1]  # caches, at whose addresses a graph writes
        key = tuple(tensor.data_ptr() for tensor in state)
        if key not in graphs:
            graphs.clear()
            graphs[key] = CudaGraph(compiled, arguments)
        return graphs[key](*arguments)

    return call


class CudaGraph:
    """A call of ``function`` recorded once on a GPU and replayed with what its arguments hold then; never run here."""

    def __init__(self, function: Callable[..., Tensor], arguments: Sequence[Any]) -> None:
        self.inputs = [_copied(argument) for argument in arguments[:-1]]
        kept, side = [tensor.clone() for tensor in arguments[-1]], torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles, and lets libraries take their memory, before the recording
            function(*self.inputs, arguments[-1])
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(*self.inputs, arguments[-1])
        for tensor, before in zip(arguments[-1], kept, strict=True):
            tensor.copy_(before)

    def __call__(self, *arguments: Any) -> Tensor:
        for ours, given in zip(self.inputs, arguments[:-1], strict=True):
            _copy_into(ours, given)
        self.graph.replay()
        return self.output.clone()


def _copied(argument: Any) -> Any:
    if isinstance(argument, tuple):
        return tuple(_copied(part) for part in argument)
    return argument.clone() if isinstance(argument, Tensor) else argument


def _copy_into(ours: Any, given: Any) -> None:
    if isinstance(given, tuple):
        for one, other in zip(ours, given, strict=True):
            _copy_into(one, other)
    elif isinstance(given, Tensor):
        ours.copy_(given)
