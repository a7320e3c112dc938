"""The Conformer: who reaches whom, and that padding reaches nobody."""

from typing import Any

import pytest
import torch
from tiny_models import shaken
from torch import Tensor
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.conformer import Conformer, ConformerBlock, Convolution
from valle.modules.masks import valid_mask
from valle.modules.transformer import TransformerConfig, rotary_table, rotate

DIM = 16
SIZES = TransformerConfig(d_model=DIM, nhead=2, num_layers=2, dim_feedforward=24)


def stack(*, kernel_size: int = 5, **sizes: Any) -> Conformer:
    """Large random weights, so that every input shows."""
    config = TransformerConfig(**{**vars(SIZES), **sizes})
    return shaken(Conformer(config, kernel_size=kernel_size)).double().eval()


def some_inputs(batch: int, length: int, *, seed: int = 0) -> Tensor:
    return torch.randn(batch, length, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everything(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def test_a_stack_keeps_the_shape() -> None:
    x = some_inputs(3, 5)
    assert stack()(x, everything(x)).shape == (3, 5, DIM)


def test_a_row_in_a_padded_batch_equals_the_row_alone() -> None:
    """Regression: no mask in the Conformer; padding is kept out of the convolution too."""
    model, lengths = stack(), torch.tensor([9, 4, 1])
    batch = some_inputs(3, 9)
    together = model(batch, valid_mask(lengths, 9))
    for row, length in enumerate(lengths.tolist()):
        one = batch[row : row + 1, :length]
        torch.testing.assert_close(together[row, :length], model(one, everything(one))[0], rtol=1e-9, atol=1e-9)


def test_what_padding_holds_reaches_no_valid_position() -> None:
    model, valid = stack(), valid_mask(torch.tensor([4]), 6)
    x = some_inputs(1, 6)
    other = torch.where(valid[..., None], x, x + 100)
    torch.testing.assert_close(model(x, valid)[:, :4], model(other, valid)[:, :4], rtol=0, atol=0)


@pytest.mark.parametrize(("kernel_size", "reach"), [(1, 0), (5, 2)])
def test_the_convolution_reaches_half_its_kernel_to_each_side(kernel_size: int, reach: int) -> None:
    """Regression: kernel 31 where the paper has 5."""
    layer = shaken(Convolution(SIZES, kernel_size=kernel_size)).double().eval()
    x = some_inputs(1, 9)
    other = x.clone()
    other[0, 4, 0] += 1
    changed = (layer(x, everything(x)) != layer(other, everything(x))).any(-1)[0]
    assert changed.nonzero()[:, 0].tolist() == list(range(4 - reach, 4 + reach + 1))


def test_every_position_sees_every_valid_one_both_ways_in_time() -> None:
    model, x = stack(), some_inputs(1, 9)
    before = model(x, everything(x))
    for place in (0, 8):
        other = x.clone()
        other[0, place, 0] += 1
        assert ((model(other, everything(x)) - before).abs() > 1e-9).any(-1).all()


def test_a_block_is_what_its_paper_says() -> None:
    """Against Gulati et al. 2020, figure 1, written out: half feed-forwards around attention and convolution, then a norm."""
    block = shaken(ConformerBlock(SIZES, kernel_size=5)).double().eval()
    x = some_inputs(1, 6)

    def feedforward(part: Any, x: Tensor) -> Tensor:
        return part.project(F.silu(part.expand(part.norm(x))))

    def attention(part: Any, x: Tensor) -> Tensor:
        heads = [part.qkv(part.norm(x))[..., place * DIM : (place + 1) * DIM].unflatten(2, (2, 8)).transpose(1, 2) for place in range(3)]
        cos, sin = rotary_table(torch.arange(6), 8, torch.float64)
        q, k, v = rotate(heads[0], cos, sin), rotate(heads[1], cos, sin), heads[2]
        mixed = (q @ k.transpose(2, 3) / 8**0.5).softmax(-1) @ v
        return part.out(mixed.transpose(1, 2).flatten(2))

    def convolution(part: Any, x: Tensor) -> Tensor:
        value, gate = part.gate(part.norm(x)).chunk(2, -1)
        padded = F.pad(value * gate.sigmoid(), (0, 0, 2, 2))
        kernel = part.depthwise.weight[:, 0].T  # (5, D)
        near = torch.stack([(padded[:, place : place + 5] * kernel).sum(1) for place in range(6)], 1) + part.depthwise.bias
        return part.project(F.silu(part.inner_norm(near)))

    expected = x + feedforward(block.first, x) / 2
    expected = expected + attention(block.attention, expected)
    expected = expected + convolution(block.convolution, expected)
    expected = block.norm(expected + feedforward(block.second, expected) / 2)
    found = block(x, rotary_table(torch.arange(6), 8, torch.float64), everything(x))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_papers_size_has_its_parameters() -> None:
    """12 layers of 1024 with 4096 inside and kernel 5; the paper counts about 350 million with embeddings and heads."""
    sizes = TransformerConfig(d_model=1024, nhead=16, num_layers=12, dim_feedforward=4096)
    with torch.device("meta"):
        model = Conformer(sizes, kernel_size=5)
    assert 280e6 < sum(parameter.numel() for parameter in model.parameters()) < 310e6


@pytest.mark.parametrize("kernel_size", [0, 4])
def test_an_even_kernel_is_refused(kernel_size: int) -> None:
    with pytest.raises(UserError, match=f"odd number of frames.*found {kernel_size}"):
        Conformer(SIZES, kernel_size=kernel_size)


def test_dropout_acts_in_training_only() -> None:
    model, x = stack(dropout=0.5), some_inputs(1, 5)
    assert torch.equal(model(x, everything(x)), model(x, everything(x)))
    model.train()
    assert not torch.equal(model(x, everything(x)), model(x, everything(x)))
