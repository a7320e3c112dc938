"""Product quantizers: one code a group, noise only in training, gradients both ways, penalties as published."""

import math

import pytest
import torch

from valle.modules.product_quantizer import (
    GumbelQuantizer,
    KMeansQuantizer,
    build_quantizer,
    gumbel_temperature,
    gumbel_temperature_of_share,
)

KINDS = ("gumbel", "kmeans")


def quantizer(kind: str) -> GumbelQuantizer | KMeansQuantizer:
    torch.manual_seed(0)
    return build_quantizer(kind, 6, groups=2, size=5, out_dim=8)


def frames(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(3, 10, 6, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(10) < torch.tensor([10, 7, 4])[:, None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_one_code_of_each_group_side_by_side(kind: str) -> None:
    vq = quantizer(kind).eval()
    vectors, codes, _ = vq(*frames())
    assert vectors.shape == (3, 10, 8) and codes.shape == (3, 10, 2) and codes.min() >= 0 and codes.max() < 5
    expected = torch.cat([vq.codebook[group, codes[..., group]] for group in range(2)], -1)
    torch.testing.assert_close(vectors, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_input_and_every_parameter(kind: str) -> None:
    vq = quantizer(kind).train()
    x, valid = frames()
    x.requires_grad_()
    vectors, _, penalty = vq(x, valid, generator=torch.Generator().manual_seed(0))
    (vectors.square().sum() + penalty).backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)
    for name, parameter in vq.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_neither_codes_nor_penalty(kind: str) -> None:
    vq = quantizer(kind).eval()
    x, valid = frames()
    _, codes, penalty = vq(x, valid)
    _, other_codes, other_penalty = vq(torch.where(valid[..., None], x, 1e3), valid)
    assert torch.equal(codes[valid], other_codes[valid])
    torch.testing.assert_close(penalty, other_penalty)


def test_gumbel_noise_is_drawn_in_training_alone_and_from_the_generator() -> None:
    vq, (x, valid) = quantizer("gumbel"), frames()
    likeliest = vq.logits(x).unflatten(-1, (2, 5)).argmax(-1)
    assert torch.equal(vq.eval()(x, valid).codes, likeliest)
    first, again, other = (vq.train()(x, valid, generator=torch.Generator().manual_seed(seed)).codes for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_gumbel_codes_are_drawn_by_their_softmax() -> None:
    vq = GumbelQuantizer(1, groups=1, size=2, out_dim=1).train()
    vq.logits.weight.data.zero_()
    vq.logits.bias.data.copy_(torch.tensor([0.0, math.log(3.0)]))
    codes = vq(torch.zeros(1, 4000, 1), torch.ones(1, 4000, dtype=torch.bool), generator=torch.Generator().manual_seed(0)).codes
    assert abs(float(codes.float().mean()) - 0.75) < 0.03


def test_diversity_is_nought_where_all_codes_are_used_alike_and_nearly_one_where_one_is() -> None:
    vq = GumbelQuantizer(4, groups=1, size=4, out_dim=4).eval()
    vq.logits.weight.data.copy_(50 * torch.eye(4))
    vq.logits.bias.data.zero_()
    even, one = torch.eye(4)[None], torch.eye(4)[:1].expand(1, 4, 4)
    valid = torch.ones(1, 4, dtype=torch.bool)
    assert float(vq(even, valid).penalty.detach()) == pytest.approx(0, abs=1e-6)
    assert float(vq(one, valid).penalty.detach()) == pytest.approx(1 - 1 / 4, abs=1e-6)


def test_kmeans_penalty_is_the_distance_to_the_nearest_code_and_a_quarter_of_it_again() -> None:
    vq, (x, valid) = quantizer("kmeans"), frames()
    parts = vq.norm(vq.project(x).unflatten(-1, (2, 4)))
    total = 0.0
    for row, place in valid.nonzero().tolist():
        for group in range(2):
            distances = (vq.codebook[group] - parts[row, place, group]).square().mean(-1)
            total += 1.25 * float(distances.min()) / 2
    assert float(vq(x, valid).penalty.detach()) == pytest.approx(total / int(valid.sum()), rel=1e-5)


def test_kmeans_codes_move_to_their_frames_under_the_penalty() -> None:
    vq, (x, valid) = quantizer("kmeans"), frames()
    optimizer = torch.optim.SGD(vq.parameters(), lr=0.3)
    errors = []
    for _ in range(60):
        penalty = vq(x, valid).penalty
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
        errors.append(float(penalty))
    assert errors[-1] < 0.6 * errors[0]


def test_the_temperature_falls_to_its_floor() -> None:
    assert gumbel_temperature(0, factor=0.99) == 2.0 and gumbel_temperature(10**6, factor=0.99) == 0.5
    assert 2.0 > gumbel_temperature(10, factor=0.99) > gumbel_temperature(11, factor=0.99)
    assert gumbel_temperature(250_000, factor=0.999995) > 0.5  # the paper's is still falling when its run ends


def test_a_run_of_any_length_cools_over_its_share() -> None:
    assert [gumbel_temperature_of_share(share) for share in (0.0, 0.5, 1.0, 1.4)] == pytest.approx([2.0, 1.0, 0.5, 0.5])
    assert gumbel_temperature(800, factor=0.9995) > 1.3  # by the step, a run of minutes ends warm
