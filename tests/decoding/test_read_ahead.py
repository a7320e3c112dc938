"""What was read, and drawn, of a row before its prompt ended: the same as later, and used only where it is what the row needs."""

from __future__ import annotations

import pytest
import torch
from tiny_models import UNITS, tiny_model
from torch import Tensor

from valle.decoding.engine import Decoder, DecodingRequest
from valle.decoding.read_ahead import Ahead, ReadAhead
from valle.decoding.sampling import NOISE_BLOCK, DrawnNoise, RowNoise, Sampling
from valle.models.semantic import _Continuation
from valle.modules.transformer import Attend, Transformer

MODEL = tiny_model(num_units=UNITS).eval().semantic
CPU = torch.device("cpu")


def some_inputs(length: int, *, seed: int = 0) -> Tensor:
    return torch.randn(length, MODEL.transformer.config.d_model, generator=torch.Generator().manual_seed(seed)).double()


@torch.inference_mode()
def read_at_once(transformer: Transformer, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    caches = transformer.new_caches(1, len(inputs))
    hidden = transformer(inputs[None], Attend.causally(), caches=caches)
    return hidden[0, -1], [part for cache in caches for part in (cache.keys, cache.values)]


@torch.inference_mode()
def assert_reads(ahead: ReadAhead, inputs: Tensor) -> None:
    hidden, cached = read_at_once(MODEL.transformer, inputs)
    assert torch.allclose(ahead.read(inputs), hidden, atol=1e-5)
    ours = [part for cache in ahead.caches for part in (cache.keys, cache.values)]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, cached, strict=True))


@pytest.mark.parametrize("lengths", [[1, 5, 9], [70, 71, 200], [9, 9], [9, 6, 12]])
def test_a_window_read_in_parts_is_as_one_read_at_once(lengths: list[int]) -> None:
    ahead, inputs = ReadAhead(MODEL.transformer), some_inputs(max(lengths))
    for length in lengths:
        assert_reads(ahead, inputs[:length])
    assert ahead.known(inputs) == lengths[-1]


@pytest.mark.parametrize("changed", [0, 3, 8])
def test_from_an_input_that_differs_on_all_is_read_again(changed: int) -> None:
    ahead, inputs = ReadAhead(MODEL.transformer), some_inputs(9)
    assert_reads(ahead, inputs)
    other = inputs.clone()
    other[changed] += 0.01
    assert ahead.known(other) == changed
    assert_reads(ahead, other)


def test_inputs_that_differ_by_rounding_alone_are_known() -> None:
    ahead, inputs = ReadAhead(MODEL.transformer), some_inputs(9)
    assert_reads(ahead, inputs)
    assert ahead.known(inputs * (1 + torch.finfo(torch.float64).eps)) == 9


def new_units(prompt: Tensor, ahead: ReadAhead | None) -> list[int]:
    request = DecodingRequest(
        prompts=[prompt + MODEL.first_unit], max_new=[12], min_new=[12], seeds=[5], sampling=Sampling(), window=20, ahead=ahead
    )
    with torch.inference_mode():
        return Decoder(_Continuation(MODEL), request).run()[0].tolist()


@pytest.mark.parametrize("length", [0, 3, 10])
@pytest.mark.parametrize("is_own", [True, False])
def test_tokens_are_the_same_whatever_was_read_ahead(length: int, is_own: bool) -> None:
    """A window of 20 tokens slides while they are drawn, and what was read is of the first window alone."""
    prompt = torch.randint(UNITS, (10,), generator=torch.Generator().manual_seed(1))
    ahead = Ahead()
    with torch.inference_mode():
        MODEL.read_ahead(ahead, prompt[:0], (prompt if is_own else (prompt + 1) % UNITS)[:length])
    reading = ahead.windows["semantic"]
    window = _Continuation(MODEL).window_inputs(0, 0, prompt + MODEL.first_unit)
    assert reading.known(window) == (1 + length if is_own else 1)
    assert new_units(prompt, reading) == new_units(prompt, None)


def test_what_was_read_ahead_is_of_one_row() -> None:
    prompts, ahead = [torch.zeros(3).long()] * 2, ReadAhead(MODEL.transformer)
    with pytest.raises(ValueError, match="single row"):
        DecodingRequest(prompts=prompts, max_new=[1, 1], seeds=[0, 1], sampling=Sampling(), window=9, ahead=ahead)


@pytest.mark.parametrize("count", [1, 2 * NOISE_BLOCK, 3 * NOISE_BLOCK + 1])
@pytest.mark.parametrize("first", [0, 70])
def test_noise_that_is_drawn_ahead_is_that_of_its_seed_and_taken_once(count: int, first: int) -> None:
    expected = RowNoise([3, 4], 5, CPU, first=first).take(2 * NOISE_BLOCK)
    drawn = DrawnNoise()
    drawn.draw(3, 5, count)
    for _ in range(2):
        assert torch.equal(RowNoise([3, 4], 5, CPU, first=first, drawn=drawn).take(2 * NOISE_BLOCK), expected)
