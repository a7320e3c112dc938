"""ABX against counting by hand, against warping by recursion, and at chance where there is nothing to tell."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.measures.abx import (
    PhoneItem,
    Triple,
    abx_error,
    abx_triples,
    abx_unit_error,
    every_triple,
    item_distances,
    permuted_phones,
    warped_distance,
)


def slow_warping(cost: np.ndarray) -> float:
    """Of all paths the cheapest, by recursion; of equally cheap steps the diagonal, then the first sequence's."""

    @cache
    def best(i: int, j: int) -> tuple[float, int]:
        if i == 0 and j == 0:
            return float(cost[0, 0]), 1
        before = [best(*place) for place in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if min(place) >= 0]
        total, steps = min(before, key=lambda way: way[0])  # the first of equals
        return total + float(cost[i, j]), steps + 1

    total, steps = best(cost.shape[0] - 1, cost.shape[1] - 1)
    return total / steps


def slow_angle(left: np.ndarray, right: np.ndarray) -> float:
    return math.acos(max(-1.0, min(1.0, float(left @ right) / math.sqrt(float(left @ left) * float(right @ right))))) / math.pi


def spoken(count: int, *, seed: int = 0, told: float = 1.0) -> tuple[list[PhoneItem], np.ndarray]:
    """Phones p, t and k of 1 to 4 frames between a and o by three speakers, each with a direction of its own, in noise."""
    rng = np.random.default_rng(seed)
    items, frames = [], []
    for number in range(count):
        phone, speaker = number % 3, number // 3 % 3
        start, size = len(frames), int(rng.integers(1, 5))
        frames += list(rng.standard_normal((size, 8)) + told * 4 * np.eye(8)[phone] + 2 * np.eye(8)[3 + speaker])
        items.append(PhoneItem("ptk"[phone], "a", "o", f"speaker {speaker}", start, start + size))
    return items, np.array(frames, np.float32)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5), st.integers(0, 9))
def test_warping_equals_that_by_recursion(sizes: list[tuple[int, int]], seed: int) -> None:
    cost = np.random.default_rng(seed).integers(0, 4, (len(sizes), 6, 6)) / 4  # with ties
    rows, columns = np.array(sizes).T
    expected = [slow_warping(row[:i, :j]) for row, (i, j) in zip(cost, sizes, strict=True)]
    np.testing.assert_allclose(warped_distance(cost, rows, columns), expected, atol=1e-12)


def test_warping_by_hand() -> None:
    cost = np.array([[[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])
    assert warped_distance(cost, np.array([2]), np.array([3]))[0] == 0  # diagonal, then on: three steps at no cost
    assert warped_distance(cost, np.array([1]), np.array([3]))[0] == pytest.approx(2 / 3)
    assert warped_distance(1 - cost, np.array([2]), np.array([2]))[0] == 1  # the diagonal, 1 + 1 over 2, before the corner, 1 + 0 + 1


def test_distances_of_items_are_angles_along_the_path() -> None:
    items, frames = spoken(12)
    pairs = [(0, 5), (3, 8), (11, 2), (7, 7)]
    unit = frames / np.linalg.norm(frames, axis=1, keepdims=True)

    def angles(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.arccos(np.clip(np.einsum("nid,njd->nij", unit[left], unit[right]), -1, 1)) / np.pi

    expected = []
    for one, other in pairs:
        spans = [frames[items[index].start : items[index].stop].astype(np.float64) for index in (one, other)]
        expected.append(slow_warping(np.array([[slow_angle(left, right) for right in spans[1]] for left in spans[0]])))
    np.testing.assert_allclose(item_distances(items, pairs, angles), expected, atol=1e-3)


def test_an_error_by_hand() -> None:
    """A at 0, X at 10, B at 30 degrees: right; B at 15 degrees: wrong; B where A is: half."""
    degrees = np.radians([0, 10, 30, 15, 0])
    frames = np.stack([np.cos(degrees), np.sin(degrees)], 1).astype(np.float32)
    items = [PhoneItem(phone, "a", "o", "s", index, index + 1) for index, phone in enumerate("ppttt")]
    for b, error in ((2, 0.0), (3, 1.0), (4, 0.5)):
        score = abx_error(items, [Triple(0, b, 1, ("p", "t", "a", "o", "s"))], frames)
        assert score.error.mean == error and score.num_triples == score.num_cells == 1


def test_cells_weigh_alike_within_a_pair_of_phones_and_pairs_alike() -> None:
    frames = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    items = [PhoneItem("p", "a", "o", "s", 0, 1), PhoneItem("p", "a", "o", "s", 1, 2), PhoneItem("t", "a", "o", "s", 2, 3)]
    right, wrong = (0, 2, 1), (2, 1, 0)  # A, B, X
    triples = [Triple(*right, ("p", "t", "a", "o", "one"))] * 3 + [Triple(*wrong, ("p", "t", "a", "o", "two"))]
    triples += [Triple(*wrong, ("t", "p", "a", "o", "one"))]
    assert abx_error(items, triples, frames).flat.mean == pytest.approx((0.5 + 1.0) / 2)


def test_neighbours_are_collapsed_before_speakers() -> None:
    """Speaker one errs in one of two contexts, speaker two in all of one: a half and one make three quarters, and flat two thirds."""
    frames = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    items = [PhoneItem(phone, "", "", "s", place, place + 1) for place, phone in enumerate("ppt")]
    right, wrong = (0, 2, 1), (2, 1, 0)  # A, B, X
    triples = [
        Triple(*right, ("p", "t", "a", "o", "one")),
        Triple(*wrong, ("p", "t", "e", "o", "one")),
        Triple(*wrong, ("p", "t", "a", "o", "two")),
    ]
    score = abx_error(items, triples, frames)
    assert score.error.mean == pytest.approx(3 / 4) and score.flat.mean == pytest.approx(2 / 3)
    assert abx_error(items, triples, frames, by_context=False).error.mean == pytest.approx(2 / 3)


def spoken_anywhere(seed: int) -> tuple[list[PhoneItem], np.ndarray]:
    """Phones between several neighbours by three speakers, said unevenly often; spans of 1 to 5 frames in noise."""
    rng = np.random.default_rng(seed)
    items, frames = [], []
    for _ in range(70):
        phone, before, speaker = (str(rng.choice(list(names), p=[0.6, 0.3, 0.1])) for names in ("ptk", "aei", "xyz"))
        start, size = len(frames), int(rng.integers(1, 6))
        frames += list(rng.standard_normal((size, 6)) + 1.5 * np.eye(6)["ptk".index(phone)] + np.eye(6)["xyz".index(speaker) + 3])
        items.append(PhoneItem(phone, before, "o", speaker, start, start + size))
    return items, np.array(frames, np.float32)


def collapsed_by_definition(items: list[PhoneItem], frames: np.ndarray, *, across: bool, by_context: bool) -> float:
    """ZeroSpeech's score as fastabx computes it: cells of all A, B, X; mean over cells of a speaker of A, over speakers, over pairs.

    Without contexts, all cells of a pair of phones are averaged at once.
    """

    def distance(one: PhoneItem, other: PhoneItem) -> float:
        spans = [frames[item.start : item.stop].astype(np.float64) for item in (one, other)]
        return slow_warping(np.array([[slow_angle(left, right) for right in spans[1]] for left in spans[0]]))

    known = {(one, other): distance(one, other) for one in items for other in items}
    labels = [sorted({getattr(item, name) for item in items}) for name in ("phone", "before", "speaker")]
    of_pairs = []
    for phone in labels[0]:
        for other in labels[0]:
            of_speakers, of_cells = [], []
            for speaker in labels[2]:
                cells = []
                for before in labels[1]:
                    for x_speaker in labels[2]:
                        if phone == other or (x_speaker != speaker) != across:
                            continue
                        here = [item for item in items if item.before == before]
                        mine = [item for item in here if (item.phone, item.speaker) == (phone, speaker)]
                        others = [item for item in here if (item.phone, item.speaker) == (other, speaker)]
                        xs = [item for item in here if (item.phone, item.speaker) == (phone, x_speaker)]
                        wrong = [0.5 * (1 + np.sign(known[a, x] - known[b, x])) for a in mine for b in others for x in xs if a is not x]
                        if wrong:
                            cells.append(np.mean(wrong))
                of_cells += cells
                if cells:
                    of_speakers.append(np.mean(cells))
            if of_cells:
                of_pairs.append(np.mean(of_speakers if by_context else of_cells))
    return float(np.mean(of_pairs))


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("by_context", [True, False])
def test_every_triple_collapsed_equals_the_definition(across: bool, by_context: bool) -> None:
    items, frames = spoken_anywhere(seed=3)
    if not by_context:
        items = [replace(item, before="#", after="#") for item in items]
    triples = every_triple(items, across=across, most=10**6)
    score = abx_error(items, triples, frames, by_context=by_context)
    wanted = collapsed_by_definition(items, frames, across=across, by_context=by_context)
    assert score.error.mean == pytest.approx(wanted, abs=1e-9)
    if across or by_context:  # within speakers in any context there is one cell a speaker
        assert abs(score.error.mean - score.flat.mean) > 1e-3  # or this test could not tell them apart


def test_every_triple_is_there_once_and_too_many_are_refused() -> None:
    items, _ = spoken_anywhere(seed=1)
    for across in (True, False):
        triples = every_triple(items, across=across, most=10**6)
        assert len({(triple.a, triple.b, triple.x) for triple in triples}) == len(triples) > 100
        drawn = {(triple.a, triple.b, triple.x, triple.cell) for triple in abx_triples(items, across=across, most=10**6)}
        assert drawn <= {(triple.a, triple.b, triple.x, triple.cell) for triple in triples}
        with pytest.raises(ValueError, match="at most 50 triples"):
            every_triple(items, across=across, most=50)


@pytest.mark.parametrize("across", [True, False])
def test_triples_differ_in_the_phone_alone_and_in_the_speaker_as_asked(across: bool) -> None:
    items, _ = spoken(60)
    items += [PhoneItem("p", "e", "o", "speaker 0", 0, 1)]  # between other neighbours: never used
    triples = abx_triples(items, across=across, most=500)
    assert len(triples) > 50
    for triple in triples:
        a, b, x = (items[index] for index in (triple.a, triple.b, triple.x))
        assert a.phone == x.phone != b.phone and (a.before, a.after) == (b.before, b.after) == (x.before, x.after) == ("a", "o")
        assert a.speaker == b.speaker and (x.speaker != a.speaker) == across and triple.a != triple.x
        assert triple.cell == (a.phone, b.phone, "a", "o", a.speaker)


def test_as_many_triples_as_asked_are_drawn_at_most_and_the_same_again() -> None:
    items, _ = spoken(60)
    assert len(abx_triples(items, across=True, most=7)) == 7
    assert abx_triples(items, across=True, most=50, seed=1) == abx_triples(items, across=True, most=50, seed=1)
    assert abx_triples(items[:1], across=True, most=5) == abx_triples([], across=False, most=5) == []


@pytest.mark.parametrize("across", [True, False])
def test_phones_that_differ_are_told_and_permuted_ones_are_not(across: bool) -> None:
    items, frames = spoken(240)
    told = abx_error(items, abx_triples(items, across=across, most=2000, most_per_cell=100), frames).error.mean
    dealt = permuted_phones(items)
    chance = abx_error(dealt, abx_triples(dealt, across=across, most=2000, most_per_cell=100), frames).error.mean
    assert told < 0.15 and chance == pytest.approx(0.5, abs=0.07)
    assert sorted(item.phone for item in dealt) == sorted(item.phone for item in items)


def test_units_are_scored_by_their_centroids_and_equal_ones_tie() -> None:
    items, frames = spoken(120)
    triples = abx_triples(items, across=True, most=600)
    one_each = np.arange(len(frames))
    assert abx_unit_error(items, triples, one_each, frames).error.mean == pytest.approx(
        abx_error(items, triples, frames).error.mean, abs=0.01
    )
    nothing = abx_unit_error(items, triples, np.zeros(len(frames), np.int64), frames)
    assert nothing.error.mean == 0.5


def test_units_without_centroids_are_the_same_or_not() -> None:
    items = [PhoneItem(phone, "a", "o", "s", start, stop) for phone, start, stop in (("p", 0, 2), ("p", 2, 4), ("t", 4, 6))]
    units = np.array([3, 1, 3, 3, 1, 1])
    assert abx_unit_error(items, [Triple(0, 2, 1, ("p", "t", "a", "o", "s"))], units, None).error.mean == 0
    assert abx_unit_error(items, [Triple(1, 2, 0, ("p", "t", "a", "o", "s"))], units, None).error.mean == 0.5  # a step of 1 either way
