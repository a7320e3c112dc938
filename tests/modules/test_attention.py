"""Attention by plain products gives what torch's kernel gives, and takes its place only where the kernel trains slowly."""

from __future__ import annotations

import pytest
import torch

from valle.modules import attention as module
from valle.modules.attention import attention


def tensors(length: int = 12, *, dtype: torch.dtype = torch.bfloat16, requires_grad: bool = True) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(3, 2, length, 8, generator=generator).to(dtype).requires_grad_(requires_grad) for _ in range(3))


MASKS = {
    "causal": {"causal": True},
    "padded": {"mask": (torch.arange(12) < torch.tensor([12, 7, 1])[:, None])[:, None, None]},
    "free": {},
}


@pytest.mark.parametrize("kind", MASKS)
def test_plain_products_and_their_gradients_equal_the_kernel(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(3, 2, 12, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for short in (0, 64):
        monkeypatch.setattr(module, "SHORT", short)
        given = tensors()
        mixed = attention(*given, **MASKS[kind])  # type: ignore[arg-type]
        assert mixed.dtype == torch.bfloat16
        (mixed.float() * weights).sum().backward()
        found.append([mixed, *(tensor.grad for tensor in given)])
    for kernel, plain in zip(*found, strict=True):
        torch.testing.assert_close(plain, kernel, atol=0.03, rtol=0.03)


def test_a_row_that_sees_nothing_has_finite_gradients() -> None:
    given = tensors()
    attention(*given, mask=torch.zeros(3, 1, 1, 12, dtype=torch.bool)).float().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in given)


@pytest.mark.parametrize(
    "given", [tensors(dtype=torch.float32), tensors(requires_grad=False), tensors(module.SHORT + 1)], ids=["float32", "no gradient", "long"]
)
def test_elsewhere_the_kernel_stays(given: tuple[torch.Tensor, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.Tensor] = []
    monkeypatch.setattr(module, "_plain", lambda q, *_: asked.append(q) or q)
    mixed = attention(*given)
    assert not asked and torch.equal(mixed, torch.nn.functional.scaled_dot_product_attention(*given))
    attention(*tensors())
    assert len(asked) == 1  # where it is the faster one


def test_dropout_leaves_the_mean_as_it_is() -> None:
    torch.manual_seed(0)
    q, k, v = tensors(64)
    ones = torch.ones_like(v)
    kept = attention(q, k, ones, dropout=0.5).float()
    assert kept.mean().item() == pytest.approx(1, abs=0.1) and kept.std().item() > 0.05
