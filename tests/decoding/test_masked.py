"""Filling masks in passes: how many each keeps, which ones, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import cos, floor, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valle.decoding.masked import fill_masked, masked_after
from valle.decoding.sampling import RowNoise, Sampling
from valle.errors import UserError

SIZE = 9


def logits_by(*, scale: float = 3.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Logits of a position that hang on its place, on its neighbours' tokens and on what is masked; not on padding behind a row."""
    table = torch.randn(64, SIZE + 1, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale

    def logits_of(tokens: Tensor, masked: Tensor) -> Tensor:
        shown = torch.where(masked, SIZE, tokens)
        before = torch.cat([torch.full_like(shown[:, :1], SIZE), shown[:, :-1]], 1)
        return table[torch.arange(tokens.shape[1]), before]

    return logits_of


@given(count=st.integers(0, 600), passes=st.integers(1, 40))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_schedule_is_the_cosine_and_ends_with_nothing_masked(count: int, passes: int) -> None:
    """Regression: linear schedule by default."""
    left = masked_after(count, passes)
    assert len(left) == passes and left[-1] == 0
    for number, (before, after) in enumerate(zip([count, *left], left, strict=False), start=1):
        assert 0 <= after <= before
        if number < passes and count >= 1:
            assert after >= 1, "the last pass has something to do"
            assert after < before or before == 1, "every pass fills a position"
            assert after <= max(1, floor(count * cos(pi / 2 * number / passes)))


def test_the_schedule_of_ten_seconds_is_the_papers() -> None:
    assert masked_after(500, 16) == [floor(500 * cos(pi / 32 * number)) for number in range(1, 16)] + [0]


def fill(logits_of: Callable[[Tensor, Tensor], Tensor], masked: Tensor, passes: int, *, seeds: list[int], **sampling: float) -> Tensor:
    tokens = torch.arange(masked.shape[1]).expand(masked.shape) % SIZE
    return fill_masked(logits_of, tokens, masked, Sampling(**sampling), passes=passes, seeds=seeds)  # type: ignore[arg-type]


def test_every_pass_keeps_as_many_as_the_schedule_says_in_each_row() -> None:
    """Regression: one budget for rows, or levels, of different counts."""
    seen: list[Tensor] = []

    def logits_of(tokens: Tensor, masked: Tensor) -> Tensor:
        seen.append(masked)
        return logits_by()(tokens, masked)

    masked = torch.arange(40) >= torch.tensor([[3], [29], [40]])
    fill(logits_of, masked, 7, seeds=[0, 1, 2])
    counts = torch.stack([step.sum(1) for step in seen], 1).tolist()
    assert counts == [[count, *masked_after(count, 7)[:-1]] for count in (37, 11, 0)]
    assert all(bool((after <= before).all()) for before, after in pairwise(seen)), "what was kept is never masked again"


@pytest.mark.parametrize("passes", [1, 2, 5])
def test_passes_are_those_of_a_slow_loop(passes: int) -> None:
    """Confidence is the probability of the token that was drawn, the most confident stay, the last pass takes the likeliest."""
    length, seed, temperature = 12, 3, 1.3
    masked, logits_of = torch.arange(length)[None] >= 2, logits_by(scale=1.0)
    found = fill(logits_of, masked, passes, seeds=[seed], temperature=temperature)
    tokens, left = [place % SIZE for place in range(length)], list(range(2, length))
    for number in range(passes):
        hidden = torch.tensor([place in left for place in range(length)])[None]
        probability = logits_of(torch.tensor([tokens]), hidden)[0].softmax(-1)
        noise = RowNoise([seed * passes + number], SIZE, torch.device("cpu")).take(length)[0]
        drawn = {}
        for place in left:
            hot = logits_of(torch.tensor([tokens]), hidden)[0, place] / temperature
            is_last = number == passes - 1
            drawn[place] = int(hot.argmax() if is_last else (hot.softmax(-1) / noise[place]).argmax())
        keep = len(left) - masked_after(length - 2, passes)[number]
        for place in sorted(left, key=lambda place: -float(probability[place, drawn[place]]))[:keep]:
            tokens[place] = drawn[place]
            left.remove(place)
    assert not left and found[0].tolist() == tokens


@pytest.mark.parametrize("temperature", [0.0, 1.0, 50.0])
def test_one_pass_takes_the_likeliest_whatever_the_temperature(temperature: float) -> None:
    """Regression: the step counter restarts at each level, so that one-pass levels are sampled hot."""
    masked, logits_of = torch.ones(2, 20, dtype=torch.bool), logits_by()
    found = fill(logits_of, masked, 1, seeds=[0, 1], temperature=temperature)
    assert torch.equal(found, logits_of(torch.zeros(2, 20).long(), masked).argmax(-1))


def test_the_temperature_never_rises_and_the_last_pass_is_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: temperature that rises."""
    from valle.decoding import masked as module

    used: list[float] = []
    draw = module.sample_all

    def watched(logits: Tensor, sampling: Sampling, noise: RowNoise) -> Tensor:
        used.append(sampling.temperature)
        return draw(logits, sampling, noise)

    monkeypatch.setattr(module, "sample_all", watched)
    fill(logits_by(), torch.ones(1, 30, dtype=torch.bool), 6, seeds=[0], temperature=0.9)
    assert used == sorted(used, reverse=True) and used[0] == 0.9 and used[-1] == 0


@given(rows=st.lists(st.tuples(st.integers(0, 10), st.integers(1, 14)), min_size=2, max_size=4), passes=st.integers(1, 6))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_row_alone_and_in_a_padded_batch_is_filled_alike(rows: list[tuple[int, int]], passes: int) -> None:
    """Noise is indexed by row and position: the batch's length changes nothing."""
    longest = max(first + count for first, count in rows)
    place = torch.arange(longest)
    masked = torch.stack([(place >= first) & (place < first + count) for first, count in rows])
    together = fill(logits_by(scale=1.0), masked, passes, seeds=list(range(len(rows))))
    for row, (first, count) in enumerate(rows):
        alone = fill(logits_by(scale=1.0), masked[row : row + 1, : first + count], passes, seeds=[row])
        assert torch.equal(together[row, : first + count], alone[0])


def test_what_is_not_masked_stays_and_seeds_decide_the_rest() -> None:
    masked = torch.arange(30)[None] % 3 == 0
    one, same, other = (fill(logits_by(scale=0.1), masked, 4, seeds=[seed]) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(one[~masked], (torch.arange(30) % SIZE)[None][~masked])


def test_positions_between_known_ones_are_filled_too() -> None:
    masked = torch.tensor([[False, True, True, False, True, False]])
    assert (fill(lambda tokens, _: torch.eye(SIZE)[tokens * 0 + 8], masked, 2, seeds=[0]) == 8)[masked].all()


@pytest.mark.parametrize("passes", [(), (16, 0)])
def test_a_level_needs_a_pass(passes: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="1 pass or more on each level"):
        Sampling(passes=passes)


def test_the_last_number_of_passes_is_that_of_all_further_levels() -> None:
    assert [Sampling(passes=(16, 2, 1)).passes_on(level) for level in range(5)] == [16, 2, 1, 1, 1]
    assert [Sampling().passes_on(level) for level in range(3)] == [16, 1, 1]
