"""One step of the transformer in numba: what ``Transformer.step`` computes, for CPUs, without a call for every small product.

A step reads each weight once and does little with it, so it takes what reading takes: dot products of weight rows with the
few rows of the batch, and attention over a cache that is written in place.  Keys lie transposed, so that scores of
neighbouring positions are neighbours and both passes of attention run along the cache.  Several threads split the rows of each matrix and
the heads of each row; they meet at a barrier of their own, because numba's thread pools forbid forks and concurrent callers.

Imported only where numba is there: see ``native``.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

# As in C with -ffast-math, but infinities and NaNs stay what they are.
FAST = {"reassoc", "contract", "arcp", "nsz"}
SPINS = 2000  # looks at the barrier before the processor is given away
LANES = 16  # int64 of one cache line, twice: no two threads write to the same one


@intrinsic
def widen(context, weight):
    """A stored weight as float32: itself, the upper half of a float32 (bfloat16, as uint16), or a whole number."""

    def generate(context, builder, signature, arguments):
        [kind], [stored] = signature.args, arguments
        if kind == types.float32:
            return stored
        if kind == types.uint16:
            upper = builder.shl(builder.zext(stored, ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
            return builder.bitcast(upper, ir.FloatType())
        return builder.sitofp(stored, ir.FloatType())

    return types.float32(weight), generate


@intrinsic
def wide_vectors(context):
    """Has the function that calls it use vectors of 512 bits where the processor has them: LLVM prefers 256 by itself."""

    def generate(context, builder, signature, arguments):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite knows no attributes that have values
        return context.get_dummy_value()

    return types.void(), generate


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
def exponential(x):
    """e^x in float32 to 2e-7 of itself, by a polynomial of degree 6 (Cephes), so that loops over it vectorise."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    power = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    rest = x - power * np.float32(0.6931471805599453)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    two_to_power = np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (series * rest * rest + rest + np.float32(1.0)) * two_to_power


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
def product(x, weight, scale, bias, out, first, last):
    """``out[:, first:last]`` of a linear layer: ``x (R, K)``, ``weight (O, K)``.

    In blocks of four outputs by four, two or one rows, so that the streams of weights and the sums in flight are enough to hide what
    memory and additions wait for; all rows of a block of weights are done while it lies in the nearest cache.
    """
    wide_vectors()
    rows, inner = x.shape
    fours, twos = rows - rows % 4, rows - rows % 2
    blocked = last - (last - first) % 4
    for o in range(first, blocked, 4):
        for row in range(0, fours, 4):
            four_rows(x, weight, scale, bias, out, o, row)
        for row in range(fours, twos, 2):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0.0)
            for k in range(inner):
                w0, w1, w2, w3 = widen(weight[o, k]), widen(weight[o + 1, k]), widen(weight[o + 2, k]), widen(weight[o + 3, k])
                a, b = x[row, k], x[row + 1, k]
                a0 += w0 * a
                a1 += w1 * a
                a2 += w2 * a
                a3 += w3 * a
                b0 += w0 * b
                b1 += w1 * b
                b2 += w2 * b
                b3 += w3 * b
            put_four(out[row], o, a0, a1, a2, a3, scale, bias)
            put_four(out[row + 1], o, b0, b1, b2, b3, scale, bias)
        if rows % 2:
            a0 = a1 = a2 = a3 = np.float32(0.0)
            for k in range(inner):
                a = x[rows - 1, k]
                a0 += widen(weight[o, k]) * a
                a1 += widen(weight[o + 1, k]) * a
                a2 += widen(weight[o + 2, k]) * a
                a3 += widen(weight[o + 3, k]) * a
            put_four(out[rows - 1], o, a0, a1, a2, a3, scale, bias)
    for o in range(blocked, last):
        for row in range(rows):
            a0 = np.float32(0.0)
            for k in range(inner):
                a0 += widen(weight[o, k]) * x[row, k]
            out[row, o] = a0 * scale[o] + bias[o]


@njit(fastmath=FAST)
def four_rows(x, weight, scale, bias, out, o, row):
    """Outputs ``o`` to ``o + 3`` of rows ``row`` to ``row + 3``: sixteen sums at once."""
    wide_vectors()
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = np.float32(0.0)
    for k in range(x.shape[1]):
        w0, w1, w2, w3 = widen(weight[o, k]), widen(weight[o + 1, k]), widen(weight[o + 2, k]), widen(weight[o + 3, k])
        a, b, c, d = x[row, k], x[row + 1, k], x[row + 2, k], x[row + 3, k]
        a0 += w0 * a
        a1 += w1 * a
        a2 += w2 * a
        a3 += w3 * a
        b0 += w0 * b
        b1 += w1 * b
        b2 += w2 * b
        b3 += w3 * b
        c0 += w0 * c
        c1 += w1 * c
        c2 += w2 * c
        c3 += w3 * c
        d0 += w0 * d
        d1 += w1 * d
        d2 += w2 * d
        d3 += w3 * d
    put_four(out[row], o, a0, a1, a2, a3, scale, bias)
    put_four(out[row + 1], o, b0, b1, b2, b3, scale, bias)
    put_four(out[row + 2], o, c0, c1, c2, c3, scale, bias)
    put_four(out[row + 3], o, d0, d1, d2, d3, scale, bias)


@njit(fastmath=FAST)
def put_four(out, o, sum_0, sum_1, sum_2, sum_3, scale, bias):
    out[o] = sum_0 * scale[o] + bias[o]
    out[o + 1] = sum_1 * scale[o + 1] + bias[o + 1]
    out[o + 2] = sum_2 * scale[o + 2] + bias[o + 2]
    out[o + 3] = sum_3 * scale[o + 3] + bias[o + 3]


@njit(fastmath=FAST)
def rotate_into(vector, cos, sin, out):
    """Rotary position of one head: dimension i is paired with i + half."""
    half = len(cos)
    for i in range(half):
        out[i] = vector[i] * cos[i] - vector[half + i] * sin[i]
        out[half + i] = vector[half + i] * cos[i] + vector[i] * sin[i]


@njit(fastmath=FAST)
def attend(query, keys, values, extent, scores, out):
    """One query of one head over ``extent`` cached positions: ``keys (hd, C)``, ``values (C, hd)``, ``scores (C,)`` for work."""
    wide_vectors()
    size = len(query)
    for t in range(extent):
        scores[t] = np.float32(0.0)
    for i in range(0, size - size % 4, 4):
        q0, q1, q2, q3 = query[i], query[i + 1], query[i + 2], query[i + 3]
        for t in range(extent):
            scores[t] += q0 * keys[i, t] + q1 * keys[i + 1, t] + q2 * keys[i + 2, t] + q3 * keys[i + 3, t]
    for i in range(size - size % 4, size):
        for t in range(extent):
            scores[t] += query[i] * keys[i, t]
    largest = scores[0]
    for t in range(1, extent):
        largest = max(largest, scores[t])
    total = np.float32(0.0)
    for t in range(extent):
        scores[t] = exponential(scores[t] - largest)
        total += scores[t]
    for i in range(size):
        out[i] = np.float32(0.0)
    for t in range(0, extent - extent % 4, 4):
        p0, p1, p2, p3 = scores[t], scores[t + 1], scores[t + 2], scores[t + 3]
        for i in range(size):
            out[i] += p0 * values[t, i] + p1 * values[t + 1, i] + p2 * values[t + 2, i] + p3 * values[t + 3, i]
    for t in range(extent - extent % 4, extent):
        for i in range(size):
            out[i] += scores[t] * values[t, i]
    for i in range(size):
        out[i] /= total


@njit(fastmath=FAST)
def attend_heads(qkv, layer_keys, layer_values, slots, cos, sin, work, mixed, part, parts):
    """A part's heads of every row: their new keys and values go into the cache, then their queries look back."""
    batch, heads, size, _ = layer_keys.shape
    dim, number = heads * size, qkv.shape[0] // batch  # new positions of each row
    root = np.float32(1.0) / np.sqrt(np.float32(size))
    turned = np.empty(size, np.float32)
    for pair in range(batch * heads * part // parts, batch * heads * (part + 1) // parts):
        b, h = pair // heads, pair % heads
        keys, values = layer_keys[b, h], layer_values[b, h]
        for place in range(number):
            slot, new = slots[b] + place, qkv[b * number + place]
            rotate_into(new[dim + h * size : dim + (h + 1) * size], cos[slot], sin[slot], turned)
            for i in range(size):
                keys[i, slot] = turned[i]
                values[slot, i] = new[2 * dim + h * size + i]
        for place in range(number):
            slot, row = slots[b] + place, b * number + place
            rotate_into(qkv[row, h * size : (h + 1) * size], cos[slot], sin[slot], turned)
            for i in range(size):
                turned[i] *= root
            attend(turned, keys, values, slot + 1, work, mixed[row, h * size : (h + 1) * size])


@njit(fastmath=FAST)
def add_to(x, change):
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[row, i] += change[row, i]


@njit(fastmath=FAST)
def run_layers(x, slots, weights, cache, tables, norm_first, work, counters, meeting, part, parts):
    """New positions of every row through all layers, by ``parts`` threads that each call this with a ``part`` of their own.

    ``x (R, D)``: inputs, and at the end the hidden, of R = B * n rows: the n new positions of each row of the batch;
    ``slots (B,)``: places of the first of them in the cache.  ``weights``, ``cache``, ``tables`` and ``work`` as ``native`` packs them.
    ``meeting``: how often the threads have met before; they meet five times a layer.
    """
    wide_vectors()
    qkv_weight, out_weight, expand_weight, project_weight, scales, vectors, last_norm = weights
    keys, values = cache
    cos, sin = tables
    residuals, normed, all_scores, qkv, mixed, change, wide = work
    layers, three_dims, dim = qkv_weight.shape
    inner = expand_weight.shape[1]
    residual, h, scores = residuals[part], normed[part], all_scores[part]
    residual[:] = x
    for layer in range(layers):
        vector, scale = vectors[layer], scales[layer]
        norm_1, norm_2 = vector[: 2 * dim], vector[2 * dim : 4 * dim]
        biases = vector[4 * dim :]
        if norm_first:
            normalise(residual, norm_1[:dim], norm_1[dim:], h)
        else:
            h[:] = residual
        ends = (three_dims, three_dims + dim, three_dims + dim + inner, three_dims + 2 * dim + inner)
        product(
            h, qkv_weight[layer], scale[: ends[0]], biases[: ends[0]], qkv, three_dims * part // parts, three_dims * (part + 1) // parts
        )
        meet(counters, part, parts, meeting + 1)
        attend_heads(qkv, keys[layer], values[layer], slots, cos, sin, scores, mixed, part, parts)
        meet(counters, part, parts, meeting + 2)
        first, last = dim * part // parts, dim * (part + 1) // parts
        product(mixed, out_weight[layer], scale[ends[0] : ends[1]], biases[ends[0] : ends[1]], change, first, last)
        meet(counters, part, parts, meeting + 3)
        add_to(residual, change)
        if norm_first:
            normalise(residual, norm_2[:dim], norm_2[dim:], h)
        else:
            normalise(residual, norm_1[:dim], norm_1[dim:], residual)
            h[:] = residual
        wide_first, wide_last = inner * part // parts, inner * (part + 1) // parts
        product(h, expand_weight[layer], scale[ends[1] : ends[2]], biases[ends[1] : ends[2]], wide, wide_first, wide_last)
        for row in range(wide.shape[0]):
            for i in range(wide_first, wide_last):
                wide[row, i] = gelu(wide[row, i])
        meet(counters, part, parts, meeting + 4)
        product(wide, project_weight[layer], scale[ends[2] :], biases[ends[2] :], change, first, last)
        meet(counters, part, parts, meeting + 5)
        add_to(residual, change)
        if not norm_first:
            normalise(residual, norm_2[:dim], norm_2[dim:], residual)
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
    """Token ``number`` of every row into ``drawn (B, n)``, and the inputs of the next step into ``x (B, D)`` -> did a row end?"""
    inputs, level_inputs, around, voices = embedding
    _, _, _, allowed, logits = drawing
    period, window, ended = len(allowed), recent.shape[1], False
    vectors = 2 if window else 1
    for row in range(len(x)):
        level = positions[row] % period
        if end_token >= 0 and number < early[row]:
            logits[row, end_token] = -np.inf
        place = noise_places[row] + number * vectors
        token = draw(logits[row], allowed[level, 0], allowed[level, 1], law, recent[row], noise[row], place)
        drawn[row, number] = token
        ended |= token == end_token
        for back in range(window - 1, 0, -1):
            recent[row, back] = recent[row, back - 1]
        if window:
            recent[row, 0] = token
        after = positions[row] + 1
        frame = min(after // period, around.shape[1] - 1)
        for i in range(x.shape[1]):
            x[row, i] = inputs[token, i] + level_inputs[after % period, i] + around[row, frame, i] + voices[row, i]
    return ended


def run_tokens(count, x, slots, positions, weights, cache, tables, norm_first, work, counters, part, parts,
               embedding, drawing, law, end_token, early, recent, noise, noise_places, drawn, done):  # fmt: skip
    """Up to ``count`` tokens of every row, each fed but for the last; ``x (B, D)``: the hidden states that predict the first.

    With a ``count`` of 0 nothing is drawn, and ``x (R, D)`` goes through the layers: all is one function, so that one is compiled.
    ``done[0]`` is the number of tokens: fewer than asked for where a row drew ``end_token``.  Arguments as ``native_run`` makes them.
    """
    wide_vectors()
    head, ones, bias, _, logits = drawing
    size, meeting = len(bias), 0
    if count == 0:
        run_layers(x, slots, weights, cache, tables, norm_first, work, counters, meeting, part, parts)
    layers = len(weights[0])
    for number in range(count):
        product(x, head, ones, bias, logits, size * part // parts, size * (part + 1) // parts)
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


def cached(function):
    """Compiled at its first call for each kind of weights, and kept on disk: beside this file, else in the user's cache folder.

    Where neither can be written to, every process compiles for itself.
    """
    options = {"fastmath": FAST, "nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba's word for: no place to write to
        return njit(**options)(function)


step = cached(run_tokens)
LOADED: set[str] = set()  # kinds of weights of which this process has the kernels
