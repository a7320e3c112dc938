"""Linear layers and attention of the native step, over memory in the order in which it is read.

A matrix lies in panels: sixteen outputs beside each other, for one input after another, so that sixteen sums grow in one register and
never have to be summed across.  Keys lie so too, sixteen positions beside each other.  Every sum is made in the order of its inputs,
whatever is computed beside it, so a row of a batch has the very numbers of the row alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from valle.decoding.native_vectors import WIDTH, load, plus, prefetch, put, store, wide_vectors, zeros

# As in C with -ffast-math, but infinities and NaNs stay what they are.
FAST = {"reassoc", "contract", "arcp", "nsz"}
FOUR = 4 * WIDTH
AHEAD = 2048  # numbers between what is read and what is asked for


@njit(fastmath=FAST)
def product(x, panels, scale, bias, out, first, last):
    """Panels ``first`` to ``last`` of a linear layer: ``x (R, K)``, ``panels (P, K, 16)`` -> ``out (R, P * 16)``.

    Some panels at a time serve all rows while they lie in a near cache.  One row reads four of them as four streams of memory, which the
    processor fetches ahead by itself; many rows read two, and have to ask for what comes next.
    """
    wide_vectors()
    rows, size = len(x), x.shape[1] * WIDTH
    for panel in range(first, last, 4):
        many = min(4, last - panel)
        row = 0
        while row + 8 <= rows:
            for one in range(0, many - 1, 2):
                eight_rows(x, row, panels, (panel + one) * size, scale, bias, out, (panel + one) * WIDTH)
            if many % 2:
                one_panel(x, row, row + 8, panels, (panel + many - 1) * size, scale, bias, out, (panel + many - 1) * WIDTH)
            row += 8
        if row + 4 <= rows:
            for one in range(0, many - 1, 2):
                four_rows(x, row, panels, (panel + one) * size, scale, bias, out, (panel + one) * WIDTH)
            if many % 2:
                one_panel(x, row, row + 4, panels, (panel + many - 1) * size, scale, bias, out, (panel + many - 1) * WIDTH)
            row += 4
        if many == 4:
            for single in range(row, rows):
                four_panels(x[single], panels, panel * size, scale, bias, out[single], panel * WIDTH)
        else:
            for one in range(many):
                one_panel(x, row, rows, panels, (panel + one) * size, scale, bias, out, (panel + one) * WIDTH)


@njit(fastmath=FAST)
def finish(out, o, total, scale, bias):
    store(out, o, plus(load(bias, o), total, load(scale, o)))


@njit(fastmath=FAST)
def one_panel(x, row, end, panels, here, scale, bias, out, o):
    wide_vectors()
    for single in range(row, end):
        total = zeros()
        for k in range(x.shape[1]):
            total = plus(total, load(panels, here + k * WIDTH), x[single, k])
        finish(out[single], o, total, scale, bias)


@njit(fastmath=FAST)
def four_panels(x, panels, here, scale, bias, out, o):
    wide_vectors()
    size = len(x) * WIDTH
    a = b = c = d = zeros()
    for k in range(len(x)):
        place, value = here + k * WIDTH, x[k]
        a = plus(a, load(panels, place), value)
        b = plus(b, load(panels, place + size), value)
        c = plus(c, load(panels, place + 2 * size), value)
        d = plus(d, load(panels, place + 3 * size), value)
    finish(out, o, a, scale, bias)
    finish(out, o + WIDTH, b, scale, bias)
    finish(out, o + 2 * WIDTH, c, scale, bias)
    finish(out, o + 3 * WIDTH, d, scale, bias)


@njit(fastmath=FAST)
def four_rows(x, row, panels, here, scale, bias, out, o):
    wide_vectors()
    size = x.shape[1] * WIDTH
    a = b = c = d = e = f = g = h = zeros()
    for k in range(x.shape[1]):
        place = here + k * WIDTH
        prefetch(panels, place + AHEAD)
        prefetch(panels, place + size + AHEAD)
        left, right = load(panels, place), load(panels, place + size)
        first, second, third, fourth = x[row, k], x[row + 1, k], x[row + 2, k], x[row + 3, k]
        a, b, c, d = plus(a, left, first), plus(b, left, second), plus(c, left, third), plus(d, left, fourth)
        e, f, g, h = plus(e, right, first), plus(f, right, second), plus(g, right, third), plus(h, right, fourth)
    finish_four(out, row, o, a, b, c, d, scale, bias)
    finish_four(out, row, o + WIDTH, e, f, g, h, scale, bias)


@njit(fastmath=FAST)
def eight_rows(x, row, panels, here, scale, bias, out, o):
    wide_vectors()
    size = x.shape[1] * WIDTH
    a = b = c = d = e = f = g = h = zeros()
    i = j = s = m = n = p = q = r = zeros()
    for k in range(x.shape[1]):
        place = here + k * WIDTH
        prefetch(panels, place + AHEAD)
        prefetch(panels, place + size + AHEAD)
        left, right = load(panels, place), load(panels, place + size)
        first, second, third, fourth = x[row, k], x[row + 1, k], x[row + 2, k], x[row + 3, k]
        a, b, c, d = plus(a, left, first), plus(b, left, second), plus(c, left, third), plus(d, left, fourth)
        i, j, s, m = plus(i, right, first), plus(j, right, second), plus(s, right, third), plus(m, right, fourth)
        first, second, third, fourth = x[row + 4, k], x[row + 5, k], x[row + 6, k], x[row + 7, k]
        e, f, g, h = plus(e, left, first), plus(f, left, second), plus(g, left, third), plus(h, left, fourth)
        n, p, q, r = plus(n, right, first), plus(p, right, second), plus(q, right, third), plus(r, right, fourth)
    finish_four(out, row, o, a, b, c, d, scale, bias)
    finish_four(out, row + 4, o, e, f, g, h, scale, bias)
    finish_four(out, row, o + WIDTH, i, j, s, m, scale, bias)
    finish_four(out, row + 4, o + WIDTH, n, p, q, r, scale, bias)


@njit(fastmath=FAST)
def finish_four(out, row, o, first, second, third, fourth, scale, bias):
    finish(out[row], o, first, scale, bias)
    finish(out[row + 1], o, second, scale, bias)
    finish(out[row + 2], o, third, scale, bias)
    finish(out[row + 3], o, fourth, scale, bias)


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
def rotate_into(vector, cos, sin, out):
    """Rotary position of one head: dimension i is paired with i + half."""
    half = len(cos)
    for i in range(half):
        out[i] = vector[i] * cos[i] - vector[half + i] * sin[i]
        out[half + i] = vector[half + i] * cos[i] + vector[i] * sin[i]


@njit(fastmath=FAST)
def remember(key, value, keys, values, slot):
    """Write one position of one head into its cache, laid out as ``attend`` says."""
    size, padded = len(key), values.shape[1]
    column = slot // WIDTH * size * WIDTH + slot % WIDTH
    for i in range(size):
        put(keys, column + i * WIDTH, key[i])
        put(values, slot * padded + i, value[i])


@njit(fastmath=FAST)
def attend(query, keys, values, extent, scores, mixed, out):
    """One query of one head over ``extent`` cached positions: ``keys (C / 16, hd, 16)``, ``values (C, hd rounded up to 16)``.

    ``scores (C,)`` and ``mixed (hd rounded up,)`` are for work.
    """
    wide_vectors()
    size, padded = len(query), values.shape[1]
    panel, tiles = size * WIDTH, (extent + WIDTH - 1) // WIDTH
    fours = tiles - tiles % 4
    for tile in range(0, fours, 4):
        a = b = c = d = zeros()
        for i in range(size):
            place, value = tile * panel + i * WIDTH, query[i]
            for stream in range(4):
                prefetch(keys, place + (4 + stream) * panel)
            a = plus(a, load(keys, place), value)
            b = plus(b, load(keys, place + panel), value)
            c = plus(c, load(keys, place + 2 * panel), value)
            d = plus(d, load(keys, place + 3 * panel), value)
        store(scores, tile * WIDTH, a)
        store(scores, (tile + 1) * WIDTH, b)
        store(scores, (tile + 2) * WIDTH, c)
        store(scores, (tile + 3) * WIDTH, d)
    for tile in range(fours, tiles):
        a = zeros()
        for i in range(size):
            a = plus(a, load(keys, tile * panel + i * WIDTH), query[i])
        store(scores, tile * WIDTH, a)
    largest = scores[0]
    for t in range(1, extent):
        largest = max(largest, scores[t])
    total = np.float32(0.0)
    for t in range(extent):
        scores[t] = exponential(scores[t] - largest)
        total += scores[t]
    blocks = padded - padded % FOUR
    for i in range(0, blocks, FOUR):
        a = b = c = d = zeros()
        for t in range(extent):
            place, share = t * padded + i, scores[t]
            for stream in range(4):
                prefetch(values, place + AHEAD + stream * WIDTH)
            a = plus(a, load(values, place), share)
            b = plus(b, load(values, place + WIDTH), share)
            c = plus(c, load(values, place + 2 * WIDTH), share)
            d = plus(d, load(values, place + 3 * WIDTH), share)
        store(mixed, i, a)
        store(mixed, i + WIDTH, b)
        store(mixed, i + 2 * WIDTH, c)
        store(mixed, i + 3 * WIDTH, d)
    for i in range(blocks, padded, WIDTH):
        a = zeros()
        for t in range(extent):
            a = plus(a, load(values, t * padded + i), scores[t])
        store(mixed, i, a)
    for i in range(size):
        out[i] = mixed[i] / total
