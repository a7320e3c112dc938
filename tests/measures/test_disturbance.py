"""PESQ's perceptual model as a loss: it ranks as PESQ does, and its gradient is a number everywhere."""

import numpy as np
import pytest
import torch

from benchmarks.memory import SAMPLES
from valle.audio import read_audio
from valle.measures.disturbance import RATE, Disturbance
from valle.measures.sound import has_pesq, pesq_wb


def speech(seconds: float = 4.0) -> torch.Tensor:
    wav, rate = read_audio(min(SAMPLES.glob("*.flac")), duration=seconds)
    assert rate == RATE
    return torch.from_numpy(wav)


def noise(wav: torch.Tensor, db: float) -> torch.Tensor:
    drawn = torch.randn(wav.shape, generator=torch.Generator().manual_seed(0))
    return wav + drawn * wav.square().mean().sqrt() * 10 ** (-db / 20)


def muffled(wav: torch.Tensor, hertz: float) -> torch.Tensor:
    spectrum = torch.fft.rfft(wav)
    return torch.fft.irfft(spectrum * (torch.linspace(0, RATE / 2, len(spectrum)) < hertz), n=len(wav))


def raw(mos: float) -> float:
    """PESQ before the mapping of P.862.2 to MOS."""
    return (3.8224 - np.log(4 / (mos - 0.999) - 1)) / 1.3669


@pytest.mark.skipif(not has_pesq(), reason="compares with the package pesq")
def test_it_ranks_damage_as_pesq_does_and_lies_near_it() -> None:
    wav = speech()
    damaged = [*(noise(wav, db) for db in (0, 10, 20, 30)), *(muffled(wav, hertz) for hertz in (1000, 2500, 5000))]
    expected = np.array([4.5 - raw(pesq_wb(output.numpy(), wav.numpy(), RATE)) for output in damaged])
    found = np.array([float(Disturbance()(output[None], wav[None])) for output in damaged])
    assert np.corrcoef(expected, found)[0, 1] > 0.9
    for few in (slice(0, 4), slice(4, 7)):
        assert (np.diff(found[few]) < 0).all()


def test_equal_sounds_are_not_disturbed_and_added_noise_is_worse_than_missing_sound() -> None:
    wav = speech(2.0)[None]
    judge = Disturbance()
    assert float(judge(wav, wav)) < 0.02
    assert float(judge(noise(wav, 10), wav)) > float(judge(wav, noise(wav, 10))) > 0.1


def test_examples_of_a_batch_are_judged_apart_and_gradients_are_finite() -> None:
    wav = torch.stack([speech(1.0), torch.zeros(RATE)])
    output = noise(wav, 5).requires_grad_()
    scores = Disturbance()(output, wav)
    assert scores.shape == (2,) and torch.allclose(scores[:1], Disturbance()(output[:1], wav[:1]), atol=1e-5)
    scores.sum().backward()
    assert output.grad is not None and torch.isfinite(output.grad).all() and output.grad[0].any()
    silent = torch.zeros(1, RATE, requires_grad=True)
    Disturbance()(silent, wav[:1]).sum().backward()
    assert silent.grad is not None and torch.isfinite(silent.grad).all()
