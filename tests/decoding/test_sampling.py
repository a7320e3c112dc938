"""The sampler against slow twins, and what may not decide a draw."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valle.decoding.sampling import NOISE_BLOCK, Noise, RowNoise, Sampling, distribution, keep_likely, sample, sample_all
from valle.errors import UserError

CPU = torch.device("cpu")


def some_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def draws(logits: Tensor, sampling: Sampling, *, count: int, seed: int = 0, recent: Tensor | None = None) -> Tensor:
    """``count`` tokens of ``logits (V,)``, from one stream."""
    noise = RowNoise([seed], len(logits), CPU)
    return torch.cat([sample(logits[None], sampling, noise, recent) for _ in range(count)])


def slow_keep(probability: list[float], top_k: int, top_p: float) -> list[float]:
    """Token by token: the ``top_k`` likeliest, then the fewest of these that hold ``top_p`` of their mass."""
    order = sorted(range(len(probability)), key=lambda token: -probability[token])
    kept = order[:top_k] if top_k else order
    total, mass, nucleus = sum(probability[token] for token in kept), 0.0, []
    for token in kept:
        if nucleus and mass >= top_p * total:
            break
        nucleus.append(token)
        mass += probability[token]
    return [value if token in nucleus else 0.0 for token, value in enumerate(probability)]


@given(
    weights=st.lists(st.integers(1, 10**6), min_size=1, max_size=12, unique=True),
    top_k=st.integers(0, 14),
    top_p=st.floats(0.01, 1.0),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_top_k_and_top_p_keep_what_a_slow_loop_keeps(weights: list[int], top_k: int, top_p: float) -> None:
    probability = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    kept = keep_likely(probability[None], Sampling(top_k=top_k, top_p=top_p))[0]
    assert kept.tolist() == slow_keep(probability.tolist(), top_k, top_p)


def test_top_p_within_the_likeliest_token_keeps_it() -> None:
    assert keep_likely(torch.tensor([[0.1, 0.9]]), Sampling(top_p=0.01)).tolist() == [[0.0, pytest.approx(0.9)]]


def test_the_device_never_waits_for_the_host() -> None:
    """Regression: ``top_p`` through the CPU a token.  On the meta device every look at a number raises."""
    logits, recent = torch.empty(2, 8, device="meta"), torch.empty(2, 3, dtype=torch.int64, device="meta")
    sampling = Sampling(temperature=0.7, top_k=3, top_p=0.9, repetition_window=3)
    noise = RowNoise([0, 1], 8, torch.device("meta"))
    assert sample(logits, sampling, noise, recent).shape == (2,)
    assert sample_all(logits[:, None].expand(2, 5, 8), sampling, noise).shape == (2, 5)


def test_by_default_all_tokens_can_be_drawn_and_as_often_as_they_are_likely() -> None:
    """Regression: default ``top_k=-100``."""
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, -3.0])
    drawn = torch.bincount(draws(logits, Sampling(), count=8000), minlength=5) / 8000
    torch.testing.assert_close(drawn, logits.softmax(0), atol=0.015, rtol=0)
    assert (drawn > 0).all()
    assert keep_likely(logits.softmax(0)[None], Sampling())[0].tolist() == logits.softmax(0).tolist()


def test_temperature_flattens_and_sharpens() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    for temperature in (0.5, 2.0):
        drawn = torch.bincount(draws(logits, Sampling(temperature=temperature), count=6000), minlength=3) / 6000
        torch.testing.assert_close(drawn, (logits / temperature).softmax(0), atol=0.02, rtol=0)


def test_tokens_of_no_probability_are_never_drawn() -> None:
    logits = some_logits(12)
    logits[::2] = -torch.inf
    assert (draws(logits, Sampling(temperature=5.0), count=500) % 2 == 1).all()


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-4, 1e-9, 1e-40, 1e-320])
def test_a_temperature_of_0_or_hardly_more_takes_the_likeliest(temperature: float) -> None:
    logits = torch.tensor([[3.0, 80.0, -torch.inf, 79.0], [-torch.inf, 1.0, 1.5, -40.0]])
    sampling = Sampling(temperature=temperature)
    assert sample(logits, sampling, RowNoise([0, 1], 4, CPU)).tolist() == [1, 2]
    assert sample_all(logits[None], sampling, RowNoise([0], 4, CPU)).tolist() == [[1, 2]]


def test_half_precision_logits_are_drawn_from_as_such() -> None:
    logits = some_logits(1, 9).half()
    expected = sample(logits.float(), Sampling(temperature=0.01), RowNoise([3], 9, CPU))
    assert torch.equal(sample(logits, Sampling(temperature=0.01), RowNoise([3], 9, CPU)), expected)


def test_a_row_draws_from_its_own_stream_whatever_rows_are_beside_it() -> None:
    """Regression: no seed."""
    logits = some_logits(3, 50)
    together = RowNoise([7, 8, 9], 50, CPU)
    alone = [RowNoise([seed], 50, CPU) for seed in (7, 8, 9)]
    for step in range(NOISE_BLOCK + 5):
        torch.manual_seed(step)  # the global stream decides nothing
        batch = sample(logits, Sampling(), together)
        assert batch.tolist() == [int(sample(logits[row : row + 1], Sampling(), alone[row])) for row in range(3)]


def test_another_seed_is_another_stream_and_negative_seeds_are_seeds() -> None:
    streams = [tuple(draws(torch.zeros(100), Sampling(), count=10, seed=seed).tolist()) for seed in (0, 1, -1, 2**31)]
    assert len(set(streams)) == 4
    assert streams[0] == tuple(draws(torch.zeros(100), Sampling(), count=10, seed=0).tolist())


@given(short=st.integers(1, 2 * NOISE_BLOCK), more=st.integers(0, NOISE_BLOCK))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_longer_take_begins_with_the_same_numbers(short: int, more: int) -> None:
    one, two = RowNoise([3], 4, CPU).take(short), RowNoise([3], 4, CPU).take(short + more)
    assert torch.equal(one, two[:, :short])


@given(first=st.integers(0, 3 * NOISE_BLOCK), count=st.integers(1, 2 * NOISE_BLOCK))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_take_that_begins_later_leaves_out_what_nobody_wanted(first: int, count: int) -> None:
    one_by_one, later = RowNoise([3, 8], 4, CPU), RowNoise([3, 8], 4, CPU, first=first)
    expected = torch.stack([one_by_one.next() for _ in range(first + count)], 1)[:, first:]
    assert torch.equal(later.take(count), expected)
    assert torch.equal(later.next(), one_by_one.next())


def test_every_position_of_a_level_has_a_draw_of_its_own() -> None:
    tokens = sample_all(torch.zeros(2, 40, 30), Sampling(), RowNoise([0, 1], 30, CPU))
    assert tokens.shape == (2, 40) and len(tokens[0].unique()) > 15 and not torch.equal(tokens[0], tokens[1])


def test_top_k_holds_for_every_position_of_a_level() -> None:
    logits = some_logits(2, 30, 20)
    tokens = sample_all(logits, Sampling(top_k=3, temperature=3.0), RowNoise([0, 1], 20, CPU))
    best = logits.topk(3).indices
    assert (best == tokens[..., None]).any(-1).all() and not torch.equal(tokens, logits.argmax(-1))


def slow_repetition_aware(logits: Tensor, sampling: Sampling, noise: RowNoise, recent: list[int]) -> int:
    """VALL-E 2, algorithm 1: nucleus sampling; where the draw repeats itself too often, a draw from all."""
    probability = (logits / sampling.temperature).softmax(0)
    first, second = noise.next()[0], noise.next()[0]
    token = int((torch.tensor(slow_keep(probability.tolist(), sampling.top_k, sampling.top_p)) / first).argmax())
    share = recent.count(token) / sampling.repetition_window
    return int((probability / second).argmax()) if share > sampling.repetition_ratio else token


@given(
    seed=st.integers(0, 1000), top_p=st.floats(0.1, 1.0), window=st.integers(1, 10), ratio=st.floats(0.05, 1.0), length=st.integers(0, 10)
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_repetition_aware_draws_are_those_of_the_paper(seed: int, top_p: float, window: int, ratio: float, length: int) -> None:
    sampling = Sampling(temperature=0.9, top_p=top_p, repetition_window=window, repetition_ratio=ratio)
    logits = some_logits(6, seed=seed)
    recent = torch.randint(3, (length,), generator=torch.Generator().manual_seed(seed)).tolist()[-window:]
    behind = torch.tensor(recent + [-1] * (window - len(recent)))
    drawn = sample(logits[None], sampling, RowNoise([seed], 6, CPU), behind[None])
    assert int(drawn) == slow_repetition_aware(logits, sampling, RowNoise([seed], 6, CPU), recent)


def test_a_token_that_filled_the_window_gives_way_to_ones_outside_the_nucleus() -> None:
    logits = torch.tensor([4.0, 0.0, 0.0, 0.0])
    sampling = Sampling(top_k=1, repetition_window=4, repetition_ratio=0.5)
    assert set(draws(logits, sampling, count=300, recent=torch.tensor([[0, 0, 0, 1]])).tolist()) == {0, 1, 2, 3}
    assert set(draws(logits, sampling, count=300, recent=torch.tensor([[0, 0, 1, 1]])).tolist()) == {0}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"temperature": -0.1}, "found -0.1"),
        ({"temperature": float("nan")}, "found nan"),
        ({"temperature": float("inf")}, "found inf"),
        ({"top_k": -100}, "found -100"),
        ({"top_p": 0.0}, "found 0.0"),
        ({"top_p": 1.5}, "found 1.5"),
        ({"top_p": float("nan")}, "found nan"),
        ({"repetition_window": -1}, "found -1 and 0.1"),
        ({"repetition_ratio": 0.0}, "found 0 and 0.0"),
        ({"repetition_ratio": 2.0}, "found 0 and 2.0"),
    ],
)
def test_settings_that_draw_nothing_are_refused(fields: dict[str, float], found: str) -> None:
    """Regression: default ``top_k=-100``."""
    with pytest.raises(UserError, match=f"must .*{found}"):
        Sampling(**fields)


@given(
    numbers=st.lists(st.integers(0, 3 * NOISE_BLOCK), min_size=3, max_size=3), steps=st.lists(st.integers(1, 17), min_size=1, max_size=12)
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_noise_by_number_is_that_of_drawing_in_order(numbers: list[int], steps: list[int]) -> None:
    """Rows go on at other speeds, and look ahead and come back."""
    ordered, noise = RowNoise([5, 6, 7], 4, CPU).take(8 * NOISE_BLOCK), RowNoise([5, 6, 7], 4, CPU)
    for step in steps:
        for ahead in range(0, 17, 4):
            found = noise.at([number + ahead for number in numbers])
            assert torch.equal(found, torch.stack([ordered[row, number + ahead] for row, number in enumerate(numbers)]))
        numbers = [number + step * (row + 1) // 3 for row, number in enumerate(numbers)]


def test_noise_that_no_row_can_need_again_is_not_kept() -> None:
    noise = RowNoise([0, 1], 4, CPU)
    for _ in range(20 * NOISE_BLOCK):
        noise.next()
        assert max(len(row.blocks) for row in noise.rows) <= 2
    noise.at([19 * NOISE_BLOCK, 20 * NOISE_BLOCK])
    with pytest.raises(ValueError, match="no longer kept"):
        noise.at([0, 20 * NOISE_BLOCK])


def test_a_token_that_takes_two_vectors_takes_the_same_ones_by_number() -> None:
    logits, recent = some_logits(3, 9), torch.tensor([[1, 1], [-1, 2], [0, 3]])
    for sampling in (Sampling(), Sampling(top_p=0.5, repetition_window=2, repetition_ratio=0.5)):
        stream = RowNoise([0, 1, 2], 9, CPU)
        in_order = torch.stack([sample(logits, sampling, stream, recent) for _ in range(5)])
        noise = Noise([0, 1, 2], CPU)
        for places in ([4, 4, 4], [0, 3, 1], [2, 2, 0]):
            drawn = sample(logits, sampling, noise.at(places).of(9), recent)
            assert drawn.tolist() == [int(in_order[place, row]) for row, place in enumerate(places)]


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0.7, top_k=3), Sampling(top_p=0.8, repetition_window=3, repetition_ratio=0.5), Sampling(temperature=0)],
    ids=["top-k", "repetition-aware", "greedy"],
)
def test_the_distribution_is_that_of_what_is_drawn(sampling: Sampling) -> None:
    logits, rows = some_logits(6, seed=3).expand(20000, 6), 20000
    recent = torch.tensor([int(logits[0].argmax()), 2, int(logits[0].argmax())]).expand(rows, 3)
    drawn = sample(logits, sampling, RowNoise(list(range(rows)), 6, CPU), recent)
    law = distribution(logits[:1], sampling, recent[:1])[0]
    assert float(law.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(drawn.bincount(minlength=6) / rows, law, atol=0.015, rtol=0)
