"""ABX: is a phone nearer to another of its kind than to a different phone in the same surroundings? (Schatz et al. 2013; Libri-light 2020)

Items are spans of frames.  In a triple A and X are the same phone and B another, all three between the same neighbours.  Within
speakers all are one speaker's; across, A and B are one speaker's and X another's.  The distance of two items is the mean of
their frames' distances along the path of dynamic time warping.  An error is a B nearer than A; a tie counts half.

Triples are averaged within a cell (phones, neighbours, speakers), cells within a pair of phones, and then over all pairs, so
that frequent phones do not drown the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from valle.measures.intervals import Estimate, bootstrap_mean

Distances = NDArray[np.float64]
TIE = 1e-9  # distances nearer to each other than this are equal
CHUNK = 4096  # pairs that are aligned side by side


@dataclass(frozen=True)
class PhoneItem:
    """One phone that was said: what, between what, by whom, and its frames ``start..stop`` among all that were encoded."""

    phone: str
    before: str
    after: str
    speaker: str
    start: int
    stop: int


@dataclass(frozen=True)
class Triple:
    """Positions of A, B and X among the items, and the cell that they belong to."""

    a: int
    b: int
    x: int
    cell: tuple[str, ...]  # phone, other phone, before, after, speaker(s)


@dataclass(frozen=True)
class AbxScore:
    """Share of errors 0..1, its interval over pairs of phones, and how much it rests on."""

    error: Estimate
    num_triples: int
    num_cells: int


def abx_triples(items: Sequence[PhoneItem], *, across: bool, most: int, most_per_cell: int = 5, seed: int = 0) -> list[Triple]:
    """At most ``most`` triples, of cells in random order, at most ``most_per_cell`` of each.

    Across speakers, X is drawn among the other speakers' items of the same phone and neighbours.
    """
    rng = np.random.default_rng(seed)
    places: dict[tuple[str, str], dict[str, dict[str, list[int]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for index, item in enumerate(items):
        places[item.before, item.after][item.speaker][item.phone].append(index)
    cells = sorted(
        (phone, other, *place, speaker)
        for place, speakers in places.items()
        for speaker, phones in speakers.items()
        for phone in phones
        for other in phones
        if phone != other and _has_x(speakers, speaker, phone, across=across)
    )
    triples: list[Triple] = []
    for number in rng.permutation(len(cells)):
        if len(triples) >= most:
            break
        phone, other, before, after, speaker = cell = cells[number]
        speakers = places[before, after]
        mine, others = speakers[speaker][phone], speakers[speaker][other]
        theirs = [index for name in sorted(speakers) if name != speaker for index in speakers[name].get(phone, [])] if across else mine
        drawn = set()
        for _ in range(most_per_cell):
            a, b, x = (int(rng.choice(choice)) for choice in (mine, others, theirs))
            if a != x and (a, b, x) not in drawn:
                drawn.add((a, b, x))
                triples.append(Triple(a, b, x, cell))
    return triples[:most]


def _has_x(speakers: dict[str, dict[str, list[int]]], speaker: str, phone: str, *, across: bool) -> bool:
    if across:
        return any(phone in phones for name, phones in speakers.items() if name != speaker)
    return len(speakers[speaker][phone]) > 1


def abx_error(items: Sequence[PhoneItem], triples: Sequence[Triple], frames: NDArray[np.float32], *, seed: int = 0) -> AbxScore:
    """ABX of continuous features ``frames (T, D)`` under the angle between them."""
    norms = np.linalg.norm(frames, axis=1, keepdims=True)
    unit = frames / np.maximum(norms, 1e-12)

    def distances(left: NDArray[np.int64], right: NDArray[np.int64]) -> Distances:
        cosine = np.einsum("nid,njd->nij", unit[left], unit[right], optimize=True, dtype=np.float64)
        return np.arccos(np.clip(cosine, -1, 1)) / np.pi

    return _score(items, triples, distances, seed)


def abx_unit_error(
    items: Sequence[PhoneItem], triples: Sequence[Triple], units: NDArray[np.int64], centroids: NDArray[np.float32] | None, *, seed: int = 0
) -> AbxScore:
    """ABX of ``units (T,)``, under the angle between their ``centroids (K, D)``, or without those under their being different at all."""
    if centroids is None:
        table = 1.0 - np.eye(int(units.max()) + 1)
    else:
        unit = centroids.astype(np.float64) / np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
        table = np.arccos(np.clip(unit @ unit.T, -1, 1)) / np.pi
        np.fill_diagonal(table, 0.0)  # where rounding leaves a little
    return _score(items, triples, lambda left, right: table[units[left][:, :, None], units[right][:, None]], seed)


def permuted_phones(items: Sequence[PhoneItem], *, seed: int = 0) -> list[PhoneItem]:
    """The same items with phones dealt anew among those between the same neighbours: nothing is left to tell, so ABX errs in half."""
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[item.before, item.after].append(index)
    dealt = list(items)
    for indexes in groups.values():
        for index, other in zip(indexes, rng.permutation(indexes), strict=True):
            dealt[index] = replace(items[index], phone=items[other].phone)
    return dealt


def _score(items, triples, distances, seed: int) -> AbxScore:  # type: ignore[no-untyped-def]
    near = item_distances(items, [(triple.a, triple.x) for triple in triples], distances)
    far = item_distances(items, [(triple.b, triple.x) for triple in triples], distances)
    wrong = np.where(np.abs(near - far) <= TIE, 0.5, (near > far).astype(np.float64))
    cells: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for triple, error in zip(triples, wrong, strict=True):
        cells[triple.cell].append(float(error))
    pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for cell, errors in cells.items():
        pairs[cell[0], cell[1]].append(float(np.mean(errors)))
    return AbxScore(error=_over_pairs(pairs, seed), num_triples=len(triples), num_cells=len(cells))


def _over_pairs(pairs: dict[tuple[str, str], list[float]], seed: int) -> Estimate:
    """Mean over pairs of phones of the means over their cells; the interval redraws pairs, which share phones and so may be too narrow."""
    return bootstrap_mean([float(np.mean(errors)) for _, errors in sorted(pairs.items())], seed=seed)


def item_distances(items: Sequence[PhoneItem], pairs: Iterable[tuple[int, int]], distances) -> Distances:  # type: ignore[no-untyped-def]
    """Distance of each pair of items, ``(N,)``; ``distances(left (n, I), right (n, J)) -> (n, I, J)`` of frames by their positions."""
    pairs = list(pairs)
    lengths = np.array([[items[index].stop - items[index].start for index in pair] for pair in pairs]).reshape(-1, 2)
    result = np.zeros(len(pairs))
    order = np.lexsort((lengths[:, 1], lengths[:, 0]))  # pairs of like sizes side by side waste little on padding
    for begin in range(0, len(pairs), CHUNK):
        chosen = order[begin : begin + CHUNK]
        spans = [_positions([items[pairs[number][side]] for number in chosen]) for side in (0, 1)]
        result[chosen] = warped_distance(distances(*spans), lengths[chosen, 0], lengths[chosen, 1])
    return result


def _positions(items: Sequence[PhoneItem]) -> NDArray[np.int64]:
    """``(N, longest)`` positions of frames, the last one repeated."""
    longest = max(item.stop - item.start for item in items)
    return np.array([[min(item.start + step, item.stop - 1) for step in range(longest)] for item in items])


def warped_distance(cost: Distances, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Distances:
    """``cost (N, I, J)``, of which the first ``rows (N,)`` and ``columns (N,)`` count -> mean cost along the cheapest path, ``(N,)``.

    Steps go one on in either sequence or both; of equally cheap ways the diagonal comes first, then the first sequence's.
    """
    count, height, width = cost.shape
    total = np.full((count, height + 1, width + 1), np.inf)
    steps = np.zeros((count, height + 1, width + 1))
    total[:, 0, 0] = 0
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            before = np.stack([total[:, i - 1, j - 1], total[:, i - 1, j], total[:, i, j - 1]])
            long = np.stack([steps[:, i - 1, j - 1], steps[:, i - 1, j], steps[:, i, j - 1]])
            best = before.argmin(0)
            total[:, i, j] = cost[:, i - 1, j - 1] + before[best, np.arange(count)]
            steps[:, i, j] = 1 + long[best, np.arange(count)]
    last = np.arange(count), rows, columns
    return total[last] / steps[last]
