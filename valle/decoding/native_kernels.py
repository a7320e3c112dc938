"""One step of the transformer in numba: what ``Transformer.step`` computes, for CPUs, without a call for every small product.

A step reads each weight once and does little with it, so it takes what reading takes: products of each matrix with the few rows of the
batch, and attention over a cache that is written in place (``native_products``).  Several threads split the outputs of each matrix and the
heads of each row; they meet at a barrier of their own, because numba's thread pools forbid forks and concurrent callers.

Imported only where numba is there: see ``native``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from valle.decoding import native_products, native_vectors
from valle.decoding.native_products import FAST, attend, exponential, product, remember, rotate_into
from valle.decoding.native_vectors import WIDTH, wide_vectors

SPINS = 2000  # looks at the barrier before the processor is given away
LANES = 16  # int64 of one cache line, twice: no two threads write to the same one


@intrinsic
def load_counter(context, counters, place):
    """``counters[place]`` as another thread last wrote it."""

    def generate(context, builder, signature, arguments):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(builder.gep(array.data, [arguments[1]]), "acquire", 8)

    return types.int64(counters, types.intp), generate


@intrinsic
def store_counter(context, counters, place, value):
    """Writes ``counters[place]``, and all that was written before it, for other threads to see."""

    def generate(context, builder, signature, arguments):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        builder.store_atomic(arguments[2], builder.gep(array.data, [arguments[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.intp, types.int64), generate


yield_processor = types.ExternalFunction("sched_yield", types.int32())


@register_jitable
def meet(counters, part, parts, meeting):
    """Wait until all parts have come to this ``meeting``, counted from 1."""
    if parts == 1:
        return
    store_counter(counters, part * LANES, meeting)
    for other in range(parts):
        spins = 0
        while load_counter(counters, other * LANES) < meeting:
            spins += 1
            if spins > SPINS:
                yield_processor()


@njit(fastmath=FAST)
def gelu(x):
    """x times the normal distribution function, whose erf is that of Abramowitz and Stegun 7.1.26 (within 1.5e-7)."""
    z = abs(x) * np.float32(0.7071067811865476)
    t = np.float32(1.0) / (np.float32(1.0) + np.float32(0.3275911) * z)
    series = np.float32(1.061405429)
    series = series * t - np.float32(1.453152027)
    series = series * t + np.float32(1.421413741)
    series = series * t - np.float32(0.284496736)
    series = series * t + np.float32(0.254829592)
    tail = np.float32(0.5) * series * t * exponential(-z * z)  # of the distribution beyond |x|
    return x * (tail if x < np.float32(0.0) else np.float32(1.0) - tail)


@njit(fastmath=FAST)
def normalise(x, scale, shift, out):
    """Layer norm of every row of ``x (R, D)``."""
    size = x.shape[1]
    for row in range(x.shape[0]):
        total = np.float32(0.0)
        for i in range(size):
            total += x[row, i]
        mean = total / np.float32(size)
        total = np.float32(0.0)
        for i in range(size):
            total += (x[row, i] - mean) * (x[row, i] - mean)
        factor = np.float32(1.0) / np.sqrt(total / np.float32(size) + np.float32(1e-5))
        for i in range(size):
            out[row, i] = (x[row, i] - mean) * factor * scale[i] + shift[i]


@njit(fastmath=FAST)
def attend_heads(qkv, layer_keys, layer_values, slots, cos, sin, work, mixed, part, parts):
    """A part's heads of every row: their new keys and values go into the cache, then their queries look back."""
    batch, heads, _, size, _ = layer_keys.shape
    dim, number = heads * size, len(qkv) // batch  # new positions of each row
    root = np.float32(1.0) / np.sqrt(np.float32(size))
    turned, gathered = np.empty(size, np.float32), np.empty(layer_values.shape[3], np.float32)
    for pair in range(batch * heads * part // parts, batch * heads * (part + 1) // parts):
        b, h = pair // heads, pair % heads
        keys, values = layer_keys[b, h], layer_values[b, h]
        for place in range(number):
            slot, new = slots[b] + place, qkv[b * number + place]
            rotate_into(new[dim + h * size : dim + (h + 1) * size], cos[slot], sin[slot], turned)
            remember(turned, new[2 * dim + h * size : 2 * dim + (h + 1) * size], keys, values, slot)
        for place in range(number):
            slot, row = slots[b] + place, b * number + place
            rotate_into(qkv[row, h * size : (h + 1) * size], cos[slot], sin[slot], turned)
            for i in range(size):
                turned[i] *= root
            attend(turned, keys, values, slot + 1, work, gathered, mixed[row, h * size : (h + 1) * size])


@njit(fastmath=FAST)
def add_to(x, change):
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[row, i] += change[row, i]


@njit(fastmath=FAST)
def share(x, panels, scale, bias, out, part, parts):
    """A part's panels of a linear layer, as ``product`` computes them -> which they are."""
    first, last = len(panels) * part // parts, len(panels) * (part + 1) // parts
    product(x, panels, scale, bias, out, first, last)
    return first, last


@njit(fastmath=FAST)
def run_layers(x, slots, weights, cache, tables, norm_first, work, counters, meeting, part, parts):
    """New positions of every row through all layers, by ``parts`` threads that each call this with a ``part`` of their own.

    ``x (R, D)``: inputs, and at the end the hidden, of R = B * n rows: the n new positions of each row of the batch;
    ``slots (B,)``: places of the first of them in the cache.  ``weights``, ``cache``, ``tables`` and ``work`` as ``native`` packs them.
    ``meeting``: how often the threads have met before; they meet five times a layer.
    """
    wide_vectors()
    qkv_weight, out_weight, expand_weight, project_weight, scales, biases, norms, last_norm = weights
    keys, values = cache
    cos, sin = tables
    residuals, normed, all_scores, qkv, mixed, change, wide = work
    residual, h, scores = residuals[part], normed[part], all_scores[part]
    residual[:] = x
    for layer in range(len(norms)):
        scale_1, shift_1, scale_2, shift_2 = norms[layer, 0], norms[layer, 1], norms[layer, 2], norms[layer, 3]
        if norm_first:
            normalise(residual, scale_1, shift_1, h)
        else:
            h[:] = residual
        share(h, qkv_weight[layer], scales[0][layer], biases[0][layer], qkv, part, parts)
        meet(counters, part, parts, meeting + 1)
        attend_heads(qkv, keys[layer], values[layer], slots, cos, sin, scores, mixed, part, parts)
        meet(counters, part, parts, meeting + 2)
        share(mixed, out_weight[layer], scales[1][layer], biases[1][layer], change, part, parts)
        meet(counters, part, parts, meeting + 3)
        add_to(residual, change)
        if norm_first:
            normalise(residual, scale_2, shift_2, h)
        else:
            normalise(residual, scale_1, shift_1, residual)
            h[:] = residual
        first, last = share(h, expand_weight[layer], scales[2][layer], biases[2][layer], wide, part, parts)
        for row in range(len(wide)):
            for i in range(first * WIDTH, last * WIDTH):
                wide[row, i] = gelu(wide[row, i])
        meet(counters, part, parts, meeting + 4)
        share(wide, project_weight[layer], scales[3][layer], biases[3][layer], change, part, parts)
        meet(counters, part, parts, meeting + 5)
        add_to(residual, change)
        if not norm_first:
            normalise(residual, scale_2, shift_2, residual)
        meeting += 5
    if part == 0:
        if norm_first:
            normalise(residual, last_norm[0], last_norm[1], residual)
        x[:] = residual


@njit(fastmath=FAST)
def likeliest(scores, first, stop):
    """The first place of the largest of ``scores[first:stop]``; in two passes, as the first of them is done many at a time."""
    largest = scores[first]
    for t in range(first, stop):
        largest = max(largest, scores[t])
    for t in range(first, stop):
        if scores[t] == largest:
            return t
    return first


@njit(fastmath=FAST)
def draw(logits, first, stop, law, recent, noise, place):
    """A token in ``first..stop`` by ``logits (V,)``, written over: the likeliest of probability / noise (``sampling.sample``).

    ``noise (BLOCK, V)`` from ``place`` on; where more than ``law[1]`` of ``recent`` are the token, it is drawn again by the next noise.
    """
    temperature = law[0]
    if temperature == np.float32(0.0):
        return likeliest(logits, first, stop)
    largest = logits[likeliest(logits, first, stop)]
    scores = noise[place]
    for t in range(first, stop):
        logits[t] = exponential((logits[t] - largest) / temperature)
    best = np.float32(-1.0)
    for t in range(first, stop):
        best = max(best, logits[t] / scores[t])
    token = first
    for t in range(first, stop):
        if logits[t] / scores[t] == best:
            token = t
            break
    if len(recent) == 0:
        return token
    same = 0
    for t in range(len(recent)):
        same += recent[t] == token
    if same <= law[1]:
        return token
    for t in range(first, stop):
        logits[t] = logits[t] / noise[place + 1, t]
    return likeliest(logits, first, stop)


@njit(fastmath=FAST)
def draw_rows(x, positions, number, embedding, drawing, law, end_token, early, recent, noise, noise_places, drawn):
    """Token ``number`` of every row into ``drawn (B, n)``, and the inputs of the next step into ``x (B, D)`` -> did a row end?

    With a guidance ``law[2]`` other than 1 the second half of the rows are the first's without their conditions, and take their tokens.
    """
    _, _, _, allowed, logits = drawing
    rows, period, window, ended = len(x), len(allowed), recent.shape[1], False
    vectors, weight = 2 if window else 1, law[2]
    told = rows if weight == np.float32(1.0) else rows // 2
    for row in range(told):
        level = positions[row] % period
        if told < rows:
            for t in range(allowed[level, 0], allowed[level, 1]):
                logits[row, t] = logits[told + row, t] + weight * (logits[row, t] - logits[told + row, t])
        if end_token >= 0 and number < early[row]:
            logits[row, end_token] = -np.inf
        place = noise_places[row] + number * vectors
        token = draw(logits[row], allowed[level, 0], allowed[level, 1], law, recent[row], noise[row], place)
        ended |= token == end_token
        for half in range(row, rows, told):
            drawn[half, number] = token
            feed(x[half], token, positions[half] + 1, half, embedding, period)
        for back in range(window - 1, 0, -1):
            recent[row, back] = recent[row, back - 1]
        if window:
            recent[row, 0] = token
    return ended


@njit(fastmath=FAST)
def feed(x, token, position, row, embedding, period):
    """The input ``x (D,)`` of a row at ``position``, after ``token``."""
    inputs, level_inputs, around, voices = embedding
    frame = min(position // period, around.shape[1] - 1)
    for i in range(len(x)):
        x[i] = inputs[token, i] + level_inputs[position % period, i] + around[row, frame, i] + voices[row, i]


@register_jitable
def run_tokens(count, x, slots, positions, weights, cache, tables, norm_first, work, counters, part, parts,
               embedding, drawing, law, end_token, early, recent, noise, noise_places, drawn, done):  # fmt: skip
    """Up to ``count`` tokens of every row, each fed but for the last; ``x (B, D)``: the hidden states that predict the first.

    With a ``count`` of 0 nothing is drawn, and ``x (R, D)`` goes through the layers: all is one function, so that one is compiled.
    ``done[0]`` is the number of tokens: fewer than asked for where a row drew ``end_token``.  Arguments as ``native_run`` makes them.
    """
    wide_vectors()
    head, ones, bias, _, logits = drawing
    meeting = 0
    if count == 0:
        run_layers(x, slots, weights, cache, tables, norm_first, work, counters, meeting, part, parts)
    layers = len(weights[0])
    for number in range(count):
        share(x, head, ones, bias, logits, part, parts)
        meet(counters, part, parts, meeting + 1)
        if part == 0:
            ended = draw_rows(
                x, positions, number, embedding, drawing, law, end_token, early, recent, noise, noise_places, drawn
            )  # fmt: skip
            done[0] = number + 1
            done[1] = ended or number + 1 == count
        meet(counters, part, parts, meeting + 2)
        if done[1]:
            return
        run_layers(x, slots, weights, cache, tables, norm_first, work, counters, meeting + 2, part, parts)
        meeting += 3 + 5 * layers
        meet(counters, part, parts, meeting)
        if part == 0:
            for row in range(len(slots)):
                slots[row] += 1
                positions[row] += 1
        meet(counters, part, parts, meeting + 1)
        meeting += 1


def cached(sources: str):
    """``run_tokens``, compiled at its first call for each kind of weights, and kept on disk: beside this file, else in the user's folder.

    Where neither can be written to, every process compiles for itself.  numba notices a change of this file alone, so ``sources``, which
    tells all files of the kernel, is part of what it keeps.
    """
    options = {"fastmath": FAST, "nogil": True, "error_model": "numpy"}

    def step(*arguments):
        sources  # noqa: B018  # a variable of the function, and so of its key
        return run_tokens(*arguments)

    try:
        return njit(cache=True, **options)(step)
    except RuntimeError:  # numba's word for: no place to write to
        return njit(**options)(step)


def digest_of_sources() -> str:
    """Changes whenever a file of the kernel does."""
    files = (__file__, native_products.__file__, native_vectors.__file__)
    return hashlib.sha256(b"".join(Path(str(file)).read_bytes() for file in files)).hexdigest()


SOURCES = digest_of_sources()
step = cached(SOURCES)
LOADED: set[str] = set()  # kinds of weights of which this process has the kernels
