"""Patterns of codes: what stands where, against a slow list of coordinates, and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valle.errors import UserError
from valle.modules.code_pattern import PATTERNS, CodePattern, FramesOfSteps

SPECIAL = 99
# Codes are 10 (level + 1) + frame; the special id is a dot.  As AudioCraft's documentation draws them.
PICTURES = {
    "parallel": ["10 11 12", "20 21 22", "30 31 32"],
    "delay": ["10 11 12 . .", ". 20 21 22 .", ". . 30 31 32"],
    "partial-delay": ["10 11 12 .", ". 20 21 22", ". 30 31 32"],
    "partial-flatten": ["10 . 11 . 12 .", ". 20 . 21 . 22", ". 30 . 31 . 32"],
    "flatten": ["10 . . 11 . . 12 . .", ". 20 . . 21 . . 22 .", ". . 30 . . 31 . . 32"],
}
sizes = {"name": st.sampled_from(PATTERNS), "levels": st.integers(1, 6), "frames": st.integers(0, 9)}


def codes_of(levels: int, frames: int, *, rows: int = 2) -> Tensor:
    return torch.randint(90, (rows, frames, levels), generator=torch.Generator().manual_seed(levels * 100 + frames))


def coordinates(name: str, levels: int, frames: int) -> list[list[tuple[int, int]]]:
    """(frame, level) of every step, as AudioCraft's providers list them, frames past the last included; without its first, empty step."""
    if name in ("parallel", "delay", "partial-delay"):
        delay = {"parallel": [0] * levels, "delay": list(range(levels)), "partial-delay": [0] + [1] * (levels - 1)}[name]
        return [[(t - delay[q], q) for q in range(levels) if t >= delay[q]] for t in range(frames + max(delay))]
    inner = list(range(levels)) if name == "flatten" else [0] + [1] * (levels - 1)
    return [[(t, q) for q in range(levels) if inner[q] == place] for t in range(frames) for place in range(max(inner) + 1)]


@pytest.mark.parametrize("name", PATTERNS)
def test_each_pattern_is_the_one_that_is_drawn(name: str) -> None:
    codes = torch.tensor([[10 * (level + 1) + frame for level in range(3)] for frame in range(3)])[None]
    steps = CodePattern.named(name, 3).build(codes, special=SPECIAL)[0]
    drawn = [" ".join("." if code == SPECIAL else str(code) for code in level) for level in steps.T.tolist()]
    assert drawn == PICTURES[name]


@given(**sizes)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_build_and_revert_are_inverses(name: str, levels: int, frames: int) -> None:
    pattern, codes = CodePattern.named(name, levels), codes_of(levels, frames)
    steps = pattern.build(codes, special=SPECIAL)
    assert torch.equal(pattern.revert(steps, frames), codes)
    assert torch.equal(pattern.build(pattern.revert(steps, frames), special=SPECIAL), steps)
    assert int((steps != SPECIAL).sum()) == codes.numel(), "a code stands nowhere or twice"


@given(**sizes)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_steps_hold_the_coordinates_of_a_slow_list(name: str, levels: int, frames: int) -> None:
    pattern = CodePattern.named(name, levels)
    expected = coordinates(name, levels, frames) if frames else []
    assert len(expected) == pattern.num_steps(frames)
    found = pattern.frames_at(torch.arange(len(expected))).tolist()
    assert [[(frame, level) for level, frame in enumerate(step) if frame >= 0] for step in found] == expected


@given(**sizes, more=st.integers(0, 5))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_longer_row_begins_with_the_steps_of_a_shorter_but_for_its_tail(name: str, levels: int, frames: int, more: int) -> None:
    pattern, codes = CodePattern.named(name, levels), codes_of(levels, frames + more)
    kept = pattern.steps_per_frame * frames
    short = pattern.build(codes[:, :frames], special=SPECIAL, num_steps=kept)
    assert torch.equal(short, pattern.build(codes, special=SPECIAL)[:, :kept])


def test_steps_that_end_before_a_frames_last_level_cannot_be_reverted() -> None:
    pattern = CodePattern.named("delay", 4)
    with pytest.raises(ValueError, match="5 frames stand in 8 steps, found 7"):
        pattern.revert(torch.zeros(1, 7, 4).long(), 5)


@pytest.mark.parametrize(
    ("offsets", "steps_per_frame", "says"),
    [
        ((), 1, "first level"),
        ((1, 2), 1, "first level"),
        ((0, 2, 1), 1, "no level comes before the level that it refines"),
        ((0, 0), 0, "1 step or more"),
        ((0, 2), 2, "a code in each of its 2 steps"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused(offsets: tuple[int, ...], steps_per_frame: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        CodePattern(offsets, steps_per_frame)


def test_an_unknown_pattern_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"parallel, delay, .*found 'coarse-first'"):
        CodePattern.named("coarse-first", 4)


@given(**sizes, cuts=st.lists(st.integers(0, 5), max_size=30))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_frames_of_steps_that_come_in_pieces_are_those_of_all_steps(name: str, levels: int, frames: int, cuts: list[int]) -> None:
    pattern, codes = CodePattern.named(name, levels), codes_of(levels, frames, rows=1)
    steps, coming, found = pattern.build(codes, special=SPECIAL)[0], FramesOfSteps(pattern), []
    for cut in cuts:
        found.append(coming.push(steps[:cut]))
        steps = steps[cut:]
    assert torch.equal(torch.cat([*found, coming.push(steps)]), codes[0])
