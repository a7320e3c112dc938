"""Recordings and seeds in the types that callers have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from valle.given_audio import PromptError, as_seeds, as_waveform

WAVE = np.array([-1.0, -0.5, 0.0, 0.25], np.float32)


@pytest.mark.parametrize(
    ("given", "step"),
    [
        ((WAVE * 2**7).astype(np.int8), 2**-7), ((WAVE * 2**15).astype(np.int16), 2**-15), ((WAVE * 2.0**31).astype(np.int32), 2**-24),
        ((WAVE * 2**7 + 128).astype(np.uint8), 2**-7), (WAVE.astype(np.float64), 0), (WAVE.astype(np.float16), 0),
        (torch.from_numpy((WAVE * 2**15).astype(np.int16)), 2**-15), (torch.from_numpy(WAVE).to(torch.bfloat16), 0),
        (torch.from_numpy(WAVE).requires_grad_(), 0),
    ],
)  # fmt: skip
def test_samples_are_scaled_by_their_type(given: np.ndarray | torch.Tensor, step: float) -> None:
    found = as_waveform(given)
    assert found.dtype == np.float32 and np.abs(found - WAVE).max() <= step


@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 1)])
def test_one_channel_is_mono_in_any_shape(shape: tuple[int, ...]) -> None:
    assert np.array_equal(as_waveform(WAVE.reshape(shape)), WAVE)
    assert np.array_equal(as_waveform(torch.from_numpy(WAVE.reshape(shape))), WAVE)


@pytest.mark.parametrize("shape", [(2, 500), (500, 2), (1, 1, 500), ()])
def test_several_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PromptError, match=r"expected a mono recording of shape \(T,\), found"):
        as_waveform(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.array([3000.0, -1.0]), "a peak of 3000; divide"), (np.array([0, 1000]), "int64, whose full scale is not known"),
        (np.array([True]), "bool"), (np.array([1j]), "complex"), (np.array(["a"]), "floats or integers"), (np.array([np.nan]), "NaN"),
    ],
)  # fmt: skip
def test_what_is_no_sound_within_full_scale_is_refused_in_one_line(given: np.ndarray, said: str) -> None:
    with pytest.raises(PromptError, match=said) as error:
        as_waveform(given)
    assert "\n" not in str(error.value)


def test_a_seed_is_any_integer() -> None:
    for seed in (3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)):
        seeds = as_seeds(seed, 2)
        assert seeds == [3, 3] and all(type(one) is int for one in seeds)
    for several in ([1, 2], (np.int32(1), 2), np.array([1, 2]), torch.tensor([1, 2]), range(1, 3)):
        assert as_seeds(several, 2) == [1, 2]


@pytest.mark.parametrize("seed", [1.5, "1", [1.5, 2], None, np.array([0.5, 1])])
def test_a_seed_that_is_no_integer_is_refused(seed: object) -> None:
    with pytest.raises(PromptError, match="expected an integer as seed"):
        as_seeds(seed, 2)
