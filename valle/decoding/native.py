"""The native step: weights packed for ``native_kernels``, a cache of its own, and the threads that share a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from valle.decoding import native_cache
from valle.decoding.native_kernels import LANES, LOADED, step
from valle.decoding.native_vectors import WIDTH
from valle.decoding.steps import CACHE_BLOCK
from valle.modules.transformer import LayerCache, Transformer, TransformerConfig
from valle.timeline import ceil_division

WEIGHTS_A_THREAD = 2**19  # of one layer, below which another thread costs more than it brings
CACHE_DTYPES = {"float32": np.float32, "bfloat16": np.uint16, "int8": np.uint16}  # by kind of weights; uint16 holds bfloat16

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackedWeights:
    """A transformer's weights as the kernels read them: all layers of a matrix in one piece, in the order of use.

    ``weights``: qkv ``(L, 3 D / 16, D, 16)``, out ``(L, D / 16, D, 16)``, expand ``(L, F / 16, D, 16)`` and project
    ``(L, D / 16, F, 16)`` in panels of sixteen outputs, of float32, of bfloat16 as uint16 or of int8; for each of them what its outputs
    are multiplied by and what is added to them; scales and shifts of the norms ``(L, 4, D)``; those of the last norm ``(2, D)``.
    Outputs, and the inputs of project, are filled up with zeros to a multiple of 16.
    """

    kind: str
    source: tuple[tuple[int, int], ...]  # which weights these are
    weights: tuple[Any, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, transformer: Transformer) -> PackedWeights:
        """A copy of the weights, made once and kept in ``transformer.stepping`` as long as the weights stay what they are."""
        kind, source = native_cache.kind_of(transformer), _source(transformer)
        packed = transformer.stepping.packed
        if packed is not None and (packed.kind, packed.source) == (kind, source):
            return packed
        blocks, inner = transformer.blocks, transformer.config.dim_feedforward
        packs = [_pack([getattr(block, name) for block in blocks], kind) for name in ("qkv", "out", "expand")]
        packs.append(_pack([block.project for block in blocks], kind, inputs=filled_up(inner)))
        norms = [
            torch.stack([
                block.attention_norm.norm.weight, block.attention_norm.norm.bias,
                block.feedforward_norm.norm.weight, block.feedforward_norm.norm.bias,
            ])
            for block in blocks
        ]  # fmt: skip
        final = transformer.final_norm
        last = torch.zeros(2, transformer.config.d_model) if final is None else torch.stack([final.norm.weight, final.norm.bias])
        panels, scales, biases = zip(*packs, strict=True)
        weights = (*panels, scales, biases, torch.stack(norms).float().numpy(), last.float().numpy())
        transformer.stepping.packed = cls(kind=kind, source=source, weights=weights)
        return transformer.stepping.packed


def _source(transformer: Transformer) -> tuple[tuple[int, int], ...]:
    """Changes whenever a weight is exchanged or written to."""
    parameters = list(transformer.parameters())
    return tuple((parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version) for parameter in parameters)


def _pack(layers: Sequence[nn.Linear], kind: str, inputs: int | None = None) -> tuple[Array, Array, Array]:
    """Panels ``(L, P, K, 16)`` of a matrix of every layer, and what its outputs are multiplied by and added to ``(L, P * 16)``."""
    outputs, inputs = filled_up(layers[0].out_features), inputs or layers[0].in_features
    packed = np.empty((len(layers), outputs // WIDTH, inputs, WIDTH), {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8}[kind])
    scales, biases = np.ones((len(layers), outputs), np.float32), np.zeros((len(layers), outputs), np.float32)
    for index, layer in enumerate(layers):
        biases[index, : layer.out_features] = layer.bias.float().numpy()
        if kind == "int8":
            weight, scale = pack_matrix(layer.weight)
            scales[index, : layer.out_features] = scale.numpy()
        else:
            weight = layer.weight.view(torch.uint16) if kind == "bfloat16" else layer.weight
        packed[index] = in_panels(weight.numpy(), inputs)
    return packed, scales, biases


def filled_up(size: int) -> int:
    """The next multiple of a vector's width."""
    return ceil_division(size, WIDTH) * WIDTH


def in_panels(weight: Array, inputs: int) -> Array:
    """``weight (O, K)`` -> ``(P, inputs, 16)``: sixteen outputs beside each other, for one input after another; zeros fill up both."""
    outputs = filled_up(len(weight))
    full = np.zeros((outputs, inputs), weight.dtype)
    full[: len(weight), : weight.shape[1]] = weight
    return np.ascontiguousarray(full.reshape(outputs // WIDTH, WIDTH, inputs).transpose(0, 2, 1))


def pack_matrix(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``weight (O, K)`` as int8 and what each row is multiplied by ``(O,)``: 255 values a row, its largest among them."""
    scale = (weight.float().abs().amax(1) / 127).clamp(min=1e-12)
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def compile_kernels() -> None:
    """Compile the kernels of every kind of weights and leave them on disk, so that no later process has to."""
    for kind in native_cache.KINDS:
        transformer = Transformer(TransformerConfig(d_model=8, nhead=2, num_layers=1, dim_feedforward=8))
        transformer.stepping.weights = "int8" if kind == "int8" else "own"
        steps = NativeSteps(transformer.to(torch.bfloat16 if kind == "bfloat16" else torch.float32), 1)
        steps.reserve(1)
        steps.step(torch.zeros(1, 1, 8), [0], torch.zeros(1, dtype=torch.int64))


def nothing_drawn() -> tuple[Any, ...]:
    """What ``run_tokens`` is given beside the rest where it draws nothing: arrays of the kinds that it knows, from ``embedding`` on."""
    matrix, vector, whole = np.zeros((1, 1), np.float32), np.zeros(1, np.float32), np.zeros((1, 2), np.int64)
    cube, numbers = matrix[None], np.zeros(2, np.int64)
    return (
        (matrix, matrix, cube, matrix), (cube, vector, vector, whole, matrix), vector, -1, numbers, whole, cube, numbers, whole, numbers
    )  # fmt: skip


class NativeSteps:
    """The steps of one batch.

    The cache is float32 where the weights are, else bfloat16: keys ``(L, B, H, C / 16, hd, 16)``, sixteen positions beside each other, and
    values ``(L, B, H, C, hd)``, filled up to a multiple of 16.  It lies in memory of numpy, which asks for large pages where torch does
    not: a cache is read a sixth faster.
    """

    def __init__(self, transformer: Transformer, batch: int) -> None:
        config = transformer.config
        self.transformer, self.batch = transformer, batch
        self.packed = PackedWeights.of(transformer)
        weights_a_layer = sum(matrix[0].size for matrix in self.packed.weights[:4])
        self.threads = max(1, min(torch.get_num_threads(), weights_a_layer // WEIGHTS_A_THREAD))
        self.pool = ThreadPoolExecutor(self.threads - 1, "valle-step") if self.threads > 1 else None
        self.shape = (config.num_layers, batch, config.nhead)
        self.head = config.d_model // config.nhead
        self.capacity = 0
        self.cache_dtype = CACHE_DTYPES[self.packed.kind]
        self.keys, self.values = self._rooms(0)
        self.work: tuple[Array, ...] = ()
        self.nothing = nothing_drawn()

    def __str__(self) -> str:
        return f"native ({self.packed.kind}, {self.threads} thread{'s' * (self.threads > 1)})"

    def _rooms(self, capacity: int) -> tuple[Array, Array]:
        keys, values = (capacity // WIDTH, self.head, WIDTH), (capacity, filled_up(self.head))
        return np.zeros((*self.shape, *keys), self.cache_dtype), np.zeros((*self.shape, *values), self.cache_dtype)

    def reserve(self, capacity: int) -> None:
        if capacity <= self.capacity:
            return
        capacity = ceil_division(capacity, CACHE_BLOCK) * CACHE_BLOCK
        keys, values = self._rooms(capacity)
        keys[:, :, :, : self.capacity // WIDTH], values[:, :, :, : self.capacity] = self.keys, self.values
        self.keys, self.values, self.capacity = keys, values, capacity
        cos, sin = self.transformer.rotary(torch.arange(capacity), torch.float32)
        half = self.head // 2
        self.tables = (cos[:, :half].contiguous().numpy(), sin[:, half:].contiguous().numpy())
        self.work = ()

    def write(self, rows: Sequence[int], windows: Sequence[LayerCache]) -> None:
        for layer, window in enumerate(windows):
            length = window.keys.shape[2]
            padded = F.pad(window.keys, (0, 0, 0, -length % WIDTH)).unflatten(2, (-1, WIDTH))
            keys, values = self._stored(padded.transpose(3, 4)), self._stored(window.values)
            for index, row in enumerate(rows):
                self.keys[layer, row, :, : padded.shape[2]] = keys[index]
                self.values[layer, row, :, :length, : self.head] = values[index]

    def _stored(self, tensor: Tensor) -> Array:
        """As the cache holds it."""
        if self.cache_dtype == np.float32:
            return tensor.float().contiguous().numpy()
        return tensor.to(torch.bfloat16).contiguous().view(torch.uint16).numpy()

    def step(self, inputs: Tensor, filled: Sequence[int], slots: Tensor) -> Tensor:
        x = np.array(inputs.detach().float().flatten(0, 1).numpy())
        places = np.array(filled, np.int64)
        given = (0, x, places, places, *self._given(len(x)))
        self._load(places)
        self._share(lambda part, parts: step(*given, part, parts, *self.nothing))
        return torch.from_numpy(x).view(inputs.shape).to(inputs.dtype)

    def run(
        self, count: int, hidden: Tensor, *, positions: Array, filled: Array, embedding: tuple[Array, ...], drawing: tuple[Array, ...],
        law: Array, end_token: int, early: Array, recent: Array, noise: Array, noise_places: Array,
    ) -> Array:  # fmt: skip
        """Draw up to ``count`` tokens a row -> ``(B, n)`` int64, all but the last of them fed; arguments as of ``run_tokens``."""
        x, drawn, done = np.array(hidden.detach().float().numpy()), np.zeros((len(hidden), count), np.int64), np.zeros(2, np.int64)
        drawn_by = (embedding, drawing, law, end_token, early, recent, noise, noise_places, drawn, done)
        self._load(filled)
        given = (count, x, filled, positions, *self._given(len(x)))
        self._share(lambda part, parts: step(*given, part, parts, *drawn_by))
        return drawn[:, : done[0]]

    def _given(self, rows: int) -> tuple[Any, ...]:
        """What every call of a kernel is given."""
        if not self.work or self.work[-1].shape[0] != rows:
            self.work = self._new_work(rows)
        counters = np.zeros(self.threads * LANES, np.int64)
        return (self.packed.weights, (self.keys, self.values), self.tables, self.transformer.config.norm_first, self.work, counters)

    def _share(self, kernel: Callable[[int, int], None]) -> None:
        """Call ``kernel(part, parts)`` for every part, each by a thread of its own."""
        others = [self.pool.submit(kernel, part, self.threads) for part in range(1, self.threads)] if self.pool else []
        kernel(0, self.threads)
        for other in others:
            other.result()

    def _load(self, slots: Array) -> None:
        """The kernel, at the first call: by one thread, while which the others would wait for it or compile as well.

        What it leaves in the cache stands at ``slots``, which the call that follows writes to.
        """
        if self.packed.kind in LOADED:
            return
        x = np.zeros((self.batch, self.transformer.config.d_model), np.float32)
        step(0, x, slots.copy(), slots.copy(), *self._given(self.batch), 0, 1, *self.nothing)
        LOADED.add(self.packed.kind)
        native_cache.note_compiled(self.packed.kind)

    def _new_work(self, rows: int) -> tuple[Array, ...]:
        """Room for what lies between the products."""
        dim, inner = self.transformer.config.d_model, self.transformer.config.dim_feedforward
        own = [(self.threads, rows, dim), (self.threads, rows, dim), (self.threads, self.capacity)]
        shared = [(rows, filled_up(3 * dim)), (rows, dim), (rows, filled_up(dim)), (rows, filled_up(inner))]
        return tuple(np.empty(shape, np.float32) for shape in own + shared)
