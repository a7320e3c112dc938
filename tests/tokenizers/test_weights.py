"""How a tokenizer's numbers are stored: what is rounded first is stored without loss, in fewer bytes, and hardly differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_pipeline import tiny_codec, tiny_kmeans
from torch import nn

from valle.tokenizers.pack import PackConfig, pack_tokenizer
from valle.tokenizers.registry import load_tokenizer, save_tokenizer
from valle.tokenizers.weights import packed, rounded, unpacked


def matrix(rows: int, columns: int, scale: float) -> nn.Linear:
    torch.manual_seed(rows)
    linear = nn.Linear(columns, rows)
    with torch.no_grad():
        linear.weight.copy_(scale * torch.randn(rows, columns))
    return linear


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 60), exponent=st.integers(-30, 20))
def test_what_is_rounded_is_stored_in_a_byte_a_number_without_loss(rows: int, exponent: int) -> None:
    exact = matrix(rows, 1024, 2.0**exponent)
    linear = rounded(matrix(rows, 1024, 2.0**exponent), "int8")
    assert (linear.weight - exact.weight).abs().max() < 0.006 * exact.weight.abs().max()  # also where half precision has no scale
    small = packed(linear.state_dict())
    assert small["weight"].dtype == torch.int8 and small["weight:scale"].shape == (rows,)
    restored = unpacked(small)
    assert set(restored) == {"weight", "bias"} and torch.equal(restored["weight"], linear.weight)


def test_rounding_twice_is_rounding_once_and_moves_no_number_by_more_than_half_a_step() -> None:
    before = matrix(16, 1024, 1.0)
    exact = before.weight.detach().clone()
    once = rounded(before, "int8").weight.detach().clone()
    step = exact.abs().amax(1, keepdim=True) / 127 * 1.004  # a scale of bfloat16 is off by 2**-9 at most
    assert ((once - exact).abs() <= 0.51 * step + 0.002 * exact.abs()).all()
    assert torch.equal(rounded(before, "int8").weight, once)


def test_numbers_that_are_no_steps_keep_their_format() -> None:
    tensors = {"exact": torch.randn(64, 64), "half": torch.randn(64, 64).half().float(), "whole": torch.arange(4)}
    small = packed(tensors)
    assert [small[name].dtype for name in tensors] == [torch.float32, torch.float16, torch.int64]
    assert all(torch.equal(small[name].to(tensor.dtype), tensor) for name, tensor in tensors.items())


def test_rows_of_zeros_stay_zeros() -> None:
    linear = matrix(4, 1024, 1.0)
    with torch.no_grad():
        linear.weight[1:3] = 0
    small = packed(rounded(linear, "int8").state_dict())
    assert small["weight"].dtype == torch.int8 and torch.equal(unpacked(small)["weight"], linear.weight)


@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_a_packed_codec_is_another_tokenizer_that_sounds_nearly_the_same(tmp_path: Path, dtype: str) -> None:
    codec = tiny_codec()
    save_tokenizer(codec, tmp_path / "codec")
    identity = pack_tokenizer(PackConfig(tokenizer=str(tmp_path / "codec"), output_dir=tmp_path / "small", name="small", dtype=dtype))  # type: ignore[arg-type]
    small = load_tokenizer(str(tmp_path / "small"))
    assert small.identity == identity and identity.name == "small"
    codes, lengths = codec.encode(torch.randn(1, 3200), torch.tensor([3200]))
    first, second = codec.decode(codes, lengths), small.decode(codes, lengths)  # type: ignore[operator]
    assert (first - second).norm() < (0.05 if dtype == "int8" else 0.002) * first.norm()
    kinds = {tensor.dtype for tensor in load_file(tmp_path / "small" / "model.safetensors").values()}
    assert (torch.int8 in kinds) == (dtype == "int8")


def test_units_can_be_packed_too_and_their_centroids_stay_exact_to_half_precision(tmp_path: Path) -> None:
    units = tiny_kmeans()
    save_tokenizer(units, tmp_path / "units")
    pack_tokenizer(PackConfig(tokenizer=str(tmp_path / "units"), output_dir=tmp_path / "small"))
    small = load_tokenizer(str(tmp_path / "small"))
    for name, tensor in units.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(small.state_dict()[name], tensor, rtol=0.001, atol=1e-4)
