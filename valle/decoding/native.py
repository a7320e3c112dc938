"""The native step: weights packed for ``native_kernels``, a cache of its own, and the threads that share a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from valle.decoding import native_cache
from valle.decoding.native_kernels import LANES, LOADED, step
from valle.decoding.steps import CACHE_BLOCK
from valle.modules.transformer import LayerCache, Transformer, TransformerConfig
from valle.timeline import ceil_division

WEIGHTS_A_THREAD = 2**19  # of one layer, below which another thread costs more than it brings

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackedWeights:
    """A transformer's weights as the kernels read them: all layers of a matrix in one piece, in the order of use.

    ``weights``: qkv ``(L, 3 D, D)``, out ``(L, D, D)``, expand ``(L, F, D)``, project ``(L, D, F)``, of float32, of bfloat16 as uint16 or
    of int8; what a row of these is multiplied by ``(L, 5 D + F)``; norms and biases ``(L, 9 D + F)``; the last norm ``(2, D)``.
    """

    kind: str
    source: tuple[tuple[int, int], ...]  # which weights these are
    weights: tuple[Array, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, transformer: Transformer) -> PackedWeights:
        """A copy of the weights, made once and kept in ``transformer.stepping`` as long as the weights stay what they are."""
        kind, source = native_cache.kind_of(transformer), _source(transformer)
        packed = transformer.stepping.packed
        if packed is not None and (packed.kind, packed.source) == (kind, source):
            return packed
        blocks = transformer.blocks
        matrices = [_pack([getattr(block, name) for block in blocks], kind) for name in ("qkv", "out", "expand", "project")]
        scales = np.concatenate([scale for _, scale in matrices], 1)
        vectors = [
            torch.cat([
                block.attention_norm.norm.weight, block.attention_norm.norm.bias,
                block.feedforward_norm.norm.weight, block.feedforward_norm.norm.bias,
                block.qkv.bias, block.out.bias, block.expand.bias, block.project.bias,
            ])
            for block in blocks
        ]  # fmt: skip
        final = transformer.final_norm
        last = torch.zeros(0, transformer.config.d_model) if final is None else torch.stack([final.norm.weight, final.norm.bias])
        weights = (*(matrix for matrix, _ in matrices), scales, torch.stack(vectors).float().numpy(), last.float().numpy())
        transformer.stepping.packed = cls(kind=kind, source=source, weights=weights)
        return transformer.stepping.packed


def _source(transformer: Transformer) -> tuple[tuple[int, int], ...]:
    """Changes whenever a weight is exchanged or written to."""
    parameters = list(transformer.parameters())
    return tuple((parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version) for parameter in parameters)


def _pack(layers: Sequence[nn.Linear], kind: str) -> tuple[Array, Array]:
    """Matrices ``(L, O, K)`` of every layer and what their rows are multiplied by ``(L, O)``."""
    shape = (len(layers), layers[0].out_features, layers[0].in_features)
    packed = np.empty(shape, {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8}[kind])
    scales = np.ones(shape[:2], np.float32)
    for index, layer in enumerate(layers):
        weight = layer.weight
        if kind == "bfloat16":
            packed[index] = weight.view(torch.uint16).numpy()
        elif kind == "float32":
            packed[index] = weight.numpy()
        else:
            whole, scale = pack_matrix(weight)
            packed[index], scales[index] = whole.numpy(), scale.numpy()
    return packed, scales


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
        (matrix, matrix, cube, matrix), (matrix, vector, vector, whole, matrix), vector, -1, numbers, whole, cube, numbers, whole, numbers
    )  # fmt: skip


def _zeros(*shape: int) -> Tensor:
    """Float32 zeros in memory of numpy, which asks for large pages where torch does not: a cache is read a sixth faster."""
    return torch.from_numpy(np.zeros(shape, np.float32))


class NativeSteps:
    """The steps of one batch; its cache is float32 whatever the weights are."""

    def __init__(self, transformer: Transformer, batch: int) -> None:
        config = transformer.config
        self.transformer, self.batch = transformer, batch
        self.packed = PackedWeights.of(transformer)
        weights_a_layer = sum(matrix[0].size for matrix in self.packed.weights[:4])
        self.threads = max(1, min(torch.get_num_threads(), weights_a_layer // WEIGHTS_A_THREAD))
        self.pool = ThreadPoolExecutor(self.threads - 1, "valle-step") if self.threads > 1 else None
        self.shape = (config.num_layers, batch, config.nhead, config.d_model // config.nhead)  # (L, B, H, D / H)
        self.capacity = 0
        self.keys, self.values = _zeros(*self.shape, 0), _zeros(*self.shape[:3], 0, self.shape[3])
        self.work: tuple[Array, ...] = ()
        self.nothing = nothing_drawn()

    def __str__(self) -> str:
        return f"native ({self.packed.kind}, {self.threads} thread{'s' * (self.threads > 1)})"

    def reserve(self, capacity: int) -> None:
        if capacity <= self.capacity:
            return
        capacity = ceil_division(capacity, CACHE_BLOCK) * CACHE_BLOCK
        keys, values = _zeros(*self.shape, capacity), _zeros(*self.shape[:3], capacity, self.shape[3])
        keys[..., : self.capacity], values[..., : self.capacity, :] = self.keys, self.values
        self.keys, self.values, self.capacity = keys, values, capacity
        cos, sin = self.transformer.rotary(torch.arange(capacity), torch.float32)
        half = self.shape[3] // 2
        self.cache = (keys.numpy(), values.numpy())
        self.tables = (cos[:, :half].contiguous().numpy(), sin[:, half:].contiguous().numpy())
        self.work = ()

    def write(self, rows: Sequence[int], windows: Sequence[LayerCache]) -> None:
        index = torch.tensor(list(rows))
        for layer, window in enumerate(windows):
            length = window.keys.shape[2]
            self.keys[layer, index, :, :, :length] = window.keys.float().transpose(2, 3)
            self.values[layer, index, :, :length] = window.values.float()

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
        return (self.packed.weights, self.cache, self.tables, self.transformer.config.norm_first, self.work, counters)

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
        shared = [(rows, 3 * dim), (rows, dim), (rows, dim), (rows, inner)]
        return tuple(np.empty(shape, np.float32) for shape in own + shared)
