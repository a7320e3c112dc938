"""STOI as a loss: near the measure that reports quote, and a gradient that is a number everywhere."""

import numpy as np
import pytest
import torch

from benchmarks.memory import SAMPLES
from valle.audio import read_audio
from valle.measures.intelligibility import Intelligibility
from valle.measures.sound import stoi

RATE = 16000


def speech(seconds: float = 4.0) -> torch.Tensor:
    wav, rate = read_audio(min(SAMPLES.glob("*.flac")), duration=seconds)
    assert rate == RATE
    return torch.from_numpy(wav)


def noisy(wav: torch.Tensor, db: float) -> torch.Tensor:
    noise = torch.randn(wav.shape, generator=torch.Generator().manual_seed(0))
    return wav + noise * wav.square().mean().sqrt() * 10 ** (-db / 20)


@pytest.mark.parametrize("db", [-5, 0, 5, 10, 20])
def test_it_is_near_the_measure_that_reports_quote(db: float) -> None:
    wav = speech()
    heard = noisy(wav, db)
    expected = stoi(heard.numpy(), wav.numpy(), RATE)
    assert float(Intelligibility(RATE)(heard[None], wav[None])) == pytest.approx(expected, abs=0.02)


def test_equal_sounds_score_one_at_any_loudness_and_other_speech_little() -> None:
    wav = speech(2.0)[None]
    score = Intelligibility(RATE)
    assert float(score(wav, wav)) == pytest.approx(1, abs=1e-4)
    assert float(score(0.1 * wav, wav)) == pytest.approx(1, abs=1e-3)
    assert float(score(wav.flip(1), wav)) < 0.4


def test_examples_of_a_batch_are_scored_apart_and_silence_has_a_finite_gradient() -> None:
    wav = torch.stack([speech(1.0), torch.zeros(RATE)])
    output = noisy(wav, 5).requires_grad_()
    scores = Intelligibility(RATE)(output, wav)
    alone = Intelligibility(RATE)(output[:1], wav[:1])
    assert scores.shape == (2,) and torch.allclose(scores[:1], alone, atol=1e-6)
    scores.sum().backward()
    assert output.grad is not None and torch.isfinite(output.grad).all() and output.grad[0].any()


def test_silence_as_output_has_a_finite_gradient() -> None:
    output = torch.zeros(1, RATE, requires_grad=True)
    Intelligibility(RATE)(output, speech(1.0)[None]).sum().backward()
    assert output.grad is not None and np.isfinite(output.grad.numpy()).all()
