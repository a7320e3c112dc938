"""Batches of rows of like length, so that little is padded: a function of (seed, epoch, ids) alone."""

from __future__ import annotations

from collections.abc import Sequence

from valle.seeds import draw

SORTED_TOGETHER = 64  # batches' worth of rows that are sorted by length before they are split into batches


def batches_of_like_length(lengths: Sequence[int], ids: Sequence[str], *, most: int, seed: int, epoch: int) -> list[list[int]]:
    """Places of rows, in batches of at most ``most`` with their padding; a longer row stands alone.

    Rows and batches are in an order of the epoch's own; epoch 0, of validation, has its batches as they come.
    """
    order = sorted(range(len(ids)), key=lambda place: draw(seed, epoch, ids[place], "order"))
    mean = max(1, sum(lengths) // max(1, len(lengths)))
    window = SORTED_TOGETHER * max(1, most // mean)
    batches: list[list[int]] = []
    for first in range(0, len(order), window):
        chunk = sorted(order[first : first + window], key=lambda place: (lengths[place], ids[place]))
        for place in chunk:
            if batches and batches[-1] and (len(batches[-1]) + 1) * lengths[place] <= most and place != chunk[0]:
                batches[-1].append(place)
            else:
                batches.append([place])
    return sorted(batches, key=lambda batch: draw(seed, epoch, ids[batch[0]], "batch")) if epoch else batches
