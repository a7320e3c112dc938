"""ConvNeXt blocks: padding is silence, and what a frame sees is what they state."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import shaken
from torch import Tensor
from torch.nn import functional as F

from valle.modules.convnext import ConvNeXt, ConvNeXtBlock

DIM = 6


def stack(*, num_blocks: int = 2, lookahead: int = 1, kernel_size: int = 5) -> ConvNeXt:
    return shaken(ConvNeXt(DIM, num_blocks, lookahead=lookahead, kernel_size=kernel_size)).double().eval()


def some_frames(batch: int, length: int, *, seed: int = 0) -> Tensor:
    return torch.randn(batch, length, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_stack_keeps_the_shape() -> None:
    assert stack()(some_frames(3, 7), torch.ones(3, 7, 1)).shape == (3, 7, DIM)


@given(lengths=st.lists(st.integers(1, 15), min_size=1, max_size=4), lookahead=st.integers(0, 3))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_clip_alone_equals_the_clip_in_a_padded_batch(lengths: list[int], lookahead: int) -> None:
    """Regression: a codec encoded with padding, the tail depends on batch mates."""
    model = stack(lookahead=lookahead)
    x = some_frames(len(lengths), max(lengths))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[..., None].double()
    together = model(x, mask)
    for row, length in enumerate(lengths):
        alone = model(x[row : row + 1, :length], torch.ones(1, length, 1, dtype=torch.float64))
        torch.testing.assert_close(together[row, :length], alone[0])


@pytest.mark.parametrize(("lookahead", "kernel_size"), [(0, 5), (1, 5), (3, 7), (4, 5)])
def test_a_frame_sees_as_far_as_is_stated_and_no_further(lookahead: int, kernel_size: int) -> None:
    model = stack(lookahead=lookahead, kernel_size=kernel_size)
    x, mask = some_frames(1, 31), torch.ones(1, 31, 1, dtype=torch.float64)
    before = model(x, mask)
    other = x.clone()
    other[:, 15] += torch.randn(DIM, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    moved = ((model(other, mask) - before).abs() > 1e-12).any(-1)[0].nonzero().flatten()
    assert int(moved.min()) == 15 - model.lookahead and int(moved.max()) == 15 + model.lookback


def test_a_block_is_a_depthwise_convolution_a_norm_and_an_expansion() -> None:
    """Against torch's own convolution."""
    block: ConvNeXtBlock = shaken(ConvNeXtBlock(DIM, kernel_size=7, lookahead=2)).double()
    x = some_frames(2, 9)
    padded = F.pad(x.transpose(1, 2), (4, 2))
    mixed = F.conv1d(padded, block.depthwise.T[:, None], block.depthwise_bias, groups=DIM).transpose(1, 2)
    expected = x + block.scale * block.project(F.gelu(block.expand(block.norm(mixed))))
    torch.testing.assert_close(block(x, torch.ones(2, 9, 1)), expected)


def test_every_parameter_has_a_gradient() -> None:
    model = stack().train()
    model(some_frames(1, 1), torch.ones(1, 1, 1)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
