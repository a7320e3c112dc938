"""ABX: is a phone nearer to another of its kind than to a different phone in the same surroundings? (Schatz et al. 2013; Libri-light 2020)

Items are spans of frames.  In a triple A and X are the same phone and B another, all three between the same neighbours.  Within
speakers all are one speaker's; across, A and B are one speaker's and X another's.  The distance of two items is the mean of
their frames' distances along the path of dynamic time warping.  An error is a B nearer than A; a tie counts half.

Triples are averaged within a cell (phones, neighbours, speakers), cells over neighbours, then over speakers, then over pairs of
phones, so that frequent phones do not drown the rest: as ZeroSpeech and fastabx (Poli et al. 2025) collapse their scores.  The
flat mean, over all cells of a pair at once, stands beside it: there, a speaker who says more counts more.
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
    """Share of errors 0..1, collapsed and by the flat mean, intervals over pairs of phones, and how much it rests on."""

    error: Estimate
    flat: Estimate
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


def every_triple(items: Sequence[PhoneItem], *, across: bool, most: int) -> list[Triple]:
    """All triples that there are, on which ABX equals fastabx's without a subsampler; ``ValueError`` above ``most``."""
    places: dict[tuple[str, str], dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, item in enumerate(items):
        places[item.before, item.after][item.speaker, item.phone].append(index)
    triples: list[Triple] = []
    for place, said in sorted(places.items()):
        for (speaker, phone), mine in sorted(said.items()):
            xs = [x for (name, other), theirs in sorted(said.items()) if other == phone and (name != speaker) == across for x in theirs]
            for (name, other), others in sorted(said.items()):
                if name != speaker or other == phone:
                    continue
                if len(triples) + len(mine) * len(others) * len(xs) > most:
                    raise ValueError(f"expected at most {most} triples, found more")
                cell = (phone, other, *place, speaker)
                triples += [Triple(a, b, x, cell) for x in xs for a in mine if a != x for b in others]
    return triples


def _has_x(speakers: dict[str, dict[str, list[int]]], speaker: str, phone: str, *, across: bool) -> bool:
    if across:
        return any(phone in phones for name, phones in speakers.items() if name != speaker)
    return len(speakers[speaker][phone]) > 1


def abx_error(
    items: Sequence[PhoneItem], triples: Sequence[Triple], frames: NDArray[np.float32], *, by_context: bool = True, seed: int = 0
) -> AbxScore:
    """ABX of continuous features ``frames (T, D)`` under the angle between them.

    ``by_context`` is false where items between any neighbours were compared: then there is nothing to collapse but cells of
    speakers, whose mean is taken at once, as in ZeroSpeech's any-context condition.
    """
    norms = np.linalg.norm(frames, axis=1, keepdims=True)
    unit = frames / np.maximum(norms, 1e-12)

    def distances(left: NDArray[np.int64], right: NDArray[np.int64]) -> Distances:
        cosine = np.einsum("nid,njd->nij", unit[left], unit[right], optimize=True, dtype=np.float64)
        return np.arccos(np.clip(cosine, -1, 1)) / np.pi

    return _score(items, triples, distances, by_context, seed)


def abx_unit_error(
    items: Sequence[PhoneItem],
    triples: Sequence[Triple],
    units: NDArray[np.int64],
    centroids: NDArray[np.float32] | None,
    *,
    by_context: bool = True,
    seed: int = 0,
) -> AbxScore:
    """ABX of ``units (T,)``, under the angle between their ``centroids (K, D)``, or without those under their being different at all."""
    if centroids is None:
        table = 1.0 - np.eye(int(units.max()) + 1)
    else:
        unit = centroids.astype(np.float64) / np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
        table = np.arccos(np.clip(unit @ unit.T, -1, 1)) / np.pi
        np.fill_diagonal(table, 0.0)  # where rounding leaves a little
    return _score(items, triples, lambda left, right: table[units[left][:, :, None], units[right][:, None]], by_context, seed)


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


def _score(items, triples, distances, by_context: bool, seed: int) -> AbxScore:  # type: ignore[no-untyped-def]
    pairs = np.array([[(triple.a, triple.x), (triple.b, triple.x)] for triple in triples]).reshape(-1, 2)
    once, place = np.unique(pairs, axis=0, return_inverse=True)  # a pair of items serves many triples
    near, far = item_distances(items, once.tolist(), distances)[place.reshape(-1, 2)].T
    wrong = np.where(np.abs(near - far) <= TIE, 0.5, (near > far).astype(np.float64))
    cells = [(phone, other, speaker, *around) for phone, other, *around, speaker in (triple.cell for triple in triples)]
    with_x = [(*cell, items[triple.x].speaker) for cell, triple in zip(cells, triples, strict=True)]
    return AbxScore(
        error=bootstrap_mean(_means(with_x, wrong.tolist(), kept=(6, 3, 2) if by_context else (6, 2)), seed=seed),
        flat=bootstrap_mean(_means(cells, wrong.tolist(), kept=(5, 2)), seed=seed),
        num_triples=len(triples),
        num_cells=len(set(cells)),
    )


def _means(labels: Sequence[tuple[str, ...]], values: Sequence[float], *, kept: Sequence[int]) -> list[float]:
    """Of values ``(N,)`` with labels (phone, other phone, speaker, before, after, speaker of X) the means of what agrees in the first
    ``kept[0]`` labels, of those the means of what agrees in the first ``kept[1]``, and so on; in the order of labels.
    """
    for count in kept:
        groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for label, value in zip(labels, values, strict=True):
            groups[label[:count]].append(float(value))
        labels, values = list(groups), [float(np.mean(group)) for group in groups.values()]
    return [value for _, value in sorted(zip(labels, values, strict=True))]


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
