"""Guidance: logits of two rows become one row's, and frames without a prompt find their way back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.decoding.drawing import Drawn
from valle.decoding.guidance import agreed, beside_none, guide, guided, in_place, of_told, unknown_alone
from valle.decoding.sampling import Sampling
from valle.errors import UserError


@pytest.mark.parametrize(("weight", "expected"), [(0.0, [1.0, -2.0]), (1.0, [3.0, 0.5]), (2.5, [6.0, 4.25])])
def test_the_weight_decides_how_far_from_the_unconditional_logits(weight: float, expected: list[float]) -> None:
    """Regression: a two-step guidance that ignores its coefficient."""
    told, bare = torch.tensor([3.0, 0.5]), torch.tensor([1.0, -2.0])
    assert guide(told, bare, weight).tolist() == expected
    halves = guided(torch.stack([told, bare]), Sampling(guidance=weight))
    assert halves.shape == (2, 2)
    if weight != 1:
        assert halves.tolist() == [expected, expected]


def test_without_guidance_logits_and_draws_are_the_very_same() -> None:
    logits, drawn = torch.randn(3, 5), Drawn(torch.tensor([[1], [2], [3]]))
    assert guided(logits, Sampling()) is logits and agreed(drawn, Sampling()) is drawn and of_told(logits, Sampling()) is logits


def test_both_halves_go_on_from_what_the_conditional_rows_drew() -> None:
    drawn = agreed(Drawn(torch.tensor([[1], [2], [8], [9]]), [1, 1, 1, 1]), Sampling(guidance=2))
    assert drawn.tokens.tolist() == [[1], [2], [1], [2]] and drawn.counts == [1, 1, 1, 1]


def test_as_many_empty_rows_stand_beside() -> None:
    assert [row.tolist() for row in beside_none([torch.tensor([1, 2]), torch.tensor([3])])] == [[1, 2], [3], [], []]


@given(known=st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_unknown_frames_stand_together_and_come_back_to_their_places(known: list[list[bool]]) -> None:
    """Wherever known ones lie: a prompt in front, or several."""
    mask = torch.tensor(known)
    frames = torch.arange(mask.numel() * 2).view(*mask.shape, 2)
    together = unknown_alone(frames, mask)
    back = in_place(together, mask)
    assert together.shape == back.shape == frames.shape
    for row, hidden in enumerate(~mask):
        assert torch.equal(together[row, : int(hidden.sum())], frames[row, hidden])
        assert torch.equal(back[row, hidden], frames[row, hidden])


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(UserError, match="the guidance must be 1"):
        Sampling(guidance=weight)
