"""Optimizers and rates beside slow references, written from the papers' formulas and the docstrings of icefall."""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from valle.errors import UserError
from valle.training.optim import COSINE_FLOOR, ScaledAdam, build_optimizer, learning_rate
from valle.training.options import LoopOptions

BETA1, BETA2, EPS, ETA, SMALLEST, LARGEST = 0.9, 0.98, 1e-8, 0.1, 1e-5, 3.0


def slow_scaled_adam(theta: list[float], grads: list[list[float]], rates: list[float]) -> list[float]:
    """Number by number: a tensor as ``exp(log_scale) * direction``, Adam's step for each of the two."""
    count = len(theta)
    m, v, n, w = [0.0] * count, [0.0] * count, 0.0, 0.0
    for t, (g, alpha) in enumerate(zip(grads, rates, strict=True), start=1):
        correction = math.sqrt(1 - BETA2**t) / (1 - BETA1**t)
        r = max(math.sqrt(sum(x * x for x in theta) / count), SMALLEST)
        h = sum(x * y for x, y in zip(theta, g, strict=True))  # d f / d log_scale
        n, w = BETA1 * n + (1 - BETA1) * h, BETA2 * w + (1 - BETA2) * h * h
        scale = -ETA * alpha * correction * n / (math.sqrt(w) + EPS)
        if r * (1 + scale) < SMALLEST:
            scale = max(scale, 0.0)
        if r * (1 + scale) > LARGEST:
            scale = min(scale, 0.0)
        if count == 1:
            r, scale = ETA, 0.0  # a single number: an Adam at the scale's rate
        for i in range(count):
            m[i], v[i] = BETA1 * m[i] + (1 - BETA1) * g[i], BETA2 * v[i] + (1 - BETA2) * g[i] ** 2
        theta = [
            x - alpha * r * correction * m[i] / (math.sqrt(v[i]) + EPS) + scale * x for i, x in enumerate(theta)
        ]  # fmt: skip
    return theta


@settings(max_examples=25, deadline=None, derandomize=True)
@given(count=st.integers(1, 5), steps=st.integers(1, 12), size=st.sampled_from([0.0, 1e-6, 0.1, 1.0, 3.0]), seed=st.integers(0, 1000))
def test_scaled_adam_equals_its_slow_reference(count: int, steps: int, size: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    start = size * torch.randn(count, dtype=torch.float64, generator=generator)
    grads = torch.randn(steps, count, dtype=torch.float64, generator=generator)
    rates = [0.05 / (1 + 0.1 * step) for step in range(steps)]
    parameter = nn.Parameter(start.clone())
    optimizer = ScaledAdam([parameter])
    for grad, rate in zip(grads, rates, strict=True):
        parameter.grad = grad.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    expected = torch.tensor(slow_scaled_adam(start.tolist(), grads.tolist(), rates), dtype=torch.float64)
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-9, atol=1e-12)


def test_scaled_adam_moves_a_tensor_in_proportion_to_its_size() -> None:
    moved = []
    for size in (0.01, 1.0):
        parameter = nn.Parameter(size * torch.tensor([1.0, -1.0, 2.0, 0.5]))
        before = parameter.detach().clone()
        optimizer = ScaledAdam([parameter], lr=0.05)
        parameter.grad = torch.tensor([0.3, 0.2, -0.7, 0.1])
        optimizer.step()
        moved.append((parameter.detach() - before) / size)
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-4, atol=1e-6)


def test_scaled_adam_keeps_sizes_between_its_bounds() -> None:
    for start, grad in ((0.011, 1.0), (0.99, -1.0)):
        parameter = nn.Parameter(torch.full((4,), start))
        optimizer = ScaledAdam([parameter], lr=0.05, scale_speed=20.0, min_rms=0.01, max_rms=1.0)
        parameter.grad = torch.full((4,), grad)
        optimizer.step()
        assert 0.009 < float(parameter.detach().square().mean().sqrt()) < 1.06  # but for one step of the direction's own


def test_scaled_adam_finds_a_minimum() -> None:
    torch.manual_seed(0)
    target, parameter = torch.randn(6, 3), nn.Parameter(torch.randn(6, 3))
    optimizer = ScaledAdam([parameter])
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.05 / (1 + step / 100)
        optimizer.zero_grad()
        (parameter - target).square().sum().backward()
        optimizer.step()
    assert float((parameter.detach() - target).abs().max()) < 0.02


def test_scaled_adam_goes_on_from_its_saved_state() -> None:
    def step(optimizer: ScaledAdam, parameter: nn.Parameter, number: int) -> None:
        parameter.grad = torch.sin(torch.arange(6.0) * number)
        optimizer.step()

    whole = nn.Parameter(torch.linspace(-1, 1, 6))
    optimizer = ScaledAdam([whole])
    for number in range(1, 9):
        if number == 5:
            saved, weights = deepcopy(optimizer.state_dict()), whole.detach().clone()
        step(optimizer, whole, number)
    resumed = nn.Parameter(weights)
    again = ScaledAdam([resumed])
    again.load_state_dict(saved)
    for number in range(5, 9):
        step(again, resumed, number)
    assert torch.equal(whole, resumed)


def options(**changes: Any) -> LoopOptions:
    return LoopOptions(**{"exp_dir": Path("exp"), **changes})


@settings(max_examples=40, deadline=None, derandomize=True)
@given(batch=st.integers(1, 200_000), epoch=st.integers(0, 100), warmup_batches=st.integers(1, 1000))
def test_eden_equals_the_formula_of_icefall(batch: int, epoch: int, warmup_batches: int) -> None:
    """lr = base_lr * (((batch**2 + lr_batches**2) / lr_batches**2) ** -0.25 * (((epoch**2 + lr_epochs**2) / lr_epochs**2)
    ** -0.25)) * warmup, where warmup rises linearly from 0.5 to 1 over warmup_batches; epochs count from 0 there."""
    lr_batches, lr_epochs = 7500, 3.5
    warmup = 1.0 if batch >= warmup_batches else 0.5 + 0.5 * (batch / warmup_batches)
    expected = 0.05 * (
        ((batch**2 + lr_batches**2) / lr_batches**2) ** -0.25 * (((epoch**2 + lr_epochs**2) / lr_epochs**2) ** -0.25)
    ) * warmup  # fmt: skip
    found = learning_rate(options(warmup_steps=warmup_batches), step=batch, epoch=epoch + 1, share_done=0.0)
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_cosine_begins_at_the_base_rate_and_ends_near_zero() -> None:
    """Others swapped the scheduler's arguments."""
    cosine = options(scheduler_name="cosine", max_steps=100, base_lr=0.002, warmup_steps=10)
    rates = [learning_rate(cosine, step=step, epoch=1, share_done=step / 100) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.0002, rel=0.01)  # a tenth of the way up
    assert max(rates) == pytest.approx(0.002, rel=0.03) and rates.index(max(rates)) == 9
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[54] == pytest.approx(0.002 * (COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * 0.5))))
    assert rates[-1] == pytest.approx(0.002 * COSINE_FLOOR)
    assert learning_rate(cosine, step=500, epoch=9, share_done=5.0) == pytest.approx(0.002 * COSINE_FLOOR)


@pytest.mark.parametrize("bound", [{"max_minutes": 8.0}, {"max_minutes": 8.0, "max_steps": 10**6}, {"max_steps": 150}])
@pytest.mark.parametrize("seconds_a_step", [0.5, 3.0])
def test_the_rate_reaches_all_that_is_asked_however_long_a_step_takes(bound: dict[str, Any], seconds_a_step: float) -> None:
    """It rose by steps and fell by minutes: of eight minutes' 180 steps, 100 went by at less than two fifths of the rate."""
    cosine = options(scheduler_name="cosine", base_lr=0.002, warmup_steps=200, **bound)
    count = bound["max_steps"] if "max_minutes" not in bound else int(480 / seconds_a_step)
    rates = [learning_rate(cosine, step=step, epoch=1, share_done=step / count) for step in range(1, count + 1)]
    assert max(rates) == pytest.approx(0.002, rel=0.01)
    high = rates.index(max(rates)) + 1
    assert high / count == pytest.approx(0.05 if "max_minutes" in bound else 0.5, abs=0.01)
    assert rates[:high] == sorted(rates[:high]) and rates[high - 1 :] == sorted(rates[high - 1 :], reverse=True)


def test_the_share_of_warmup_may_be_given(tmp_path: Path) -> None:
    for bound in ({"max_minutes": 1.0}, {"max_steps": 10}):
        cosine = options(scheduler_name="cosine", warmup_share=0.2, warmup_steps=3, **bound)
        assert learning_rate(cosine, step=1, epoch=1, share_done=0.1) == pytest.approx(0.025)
        assert learning_rate(cosine, step=2, epoch=1, share_done=0.2) == pytest.approx(0.05)
    assert learning_rate(options(scheduler_name="cosine", max_steps=10, warmup_share=0.0), step=1, epoch=1, share_done=0.0) == 0.05
    with pytest.raises(UserError, match="--warmup-share must be 0 or more and below 1, found 1"):
        options(scheduler_name="cosine", max_steps=10, warmup_share=1.0)
    with pytest.raises(UserError, match="--warmup-share is for --scheduler-name cosine"):
        options(warmup_share=0.1)


def test_a_seed_is_of_any_integer_type() -> None:
    assert type(options(seed=np.int64(7)).seed) is int and options(seed=np.uint8(7)) == options(seed=7)


def test_a_cosine_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match="give --max-steps or --max-minutes"):
        options(scheduler_name="cosine")


def test_no_warmup_starts_at_the_full_rate() -> None:
    assert learning_rate(options(warmup_steps=0), step=1, epoch=1, share_done=0) == pytest.approx(0.05, rel=1e-6)


def test_adamw_decays_matrices_only_and_leaves_what_is_frozen() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    optimizer = build_optimizer(model, options(optimizer_name="AdamW", base_lr=0.01, weight_decay=0.5))
    decayed = {id(parameter) for group in optimizer.param_groups if group["weight_decay"] for parameter in group["params"]}
    others = {id(parameter) for group in optimizer.param_groups if not group["weight_decay"] for parameter in group["params"]}
    assert decayed == {id(model[0].weight)} and others == {id(model[0].bias), id(model[1].weight), id(model[1].bias)}


def test_adamw_equals_its_paper() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, with the decay scaled by the rate."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    theta = model.weight.detach().clone()
    optimizer = build_optimizer(model, options(optimizer_name="AdamW", base_lr=0.01, weight_decay=0.1))
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    for t in range(1, 6):
        grad = torch.randn(2, 3, dtype=torch.float64)
        model.weight.grad = grad.clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * grad, 0.98 * v + 0.02 * grad**2
        step = (m / (1 - 0.9**t)) / ((v / (1 - 0.98**t)).sqrt() + 1e-8)
        theta = theta - 0.01 * (step + 0.1 * theta)
    torch.testing.assert_close(model.weight.detach(), theta, rtol=1e-9, atol=1e-12)
