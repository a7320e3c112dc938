"""SoundStream's reconstruction loss against the paper's formula in loops, and as what a codec trains by."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_codec import audio_manifest, codec_options

from valle.measures.mel import mel_filters
from valle.measures.soundstream_spectra import SoundStreamSpectra
from valle.training.codec_task import CodecTask


def by_the_formula(output: np.ndarray, target: np.ndarray, rate: int) -> float:
    """One clip, frame by frame."""
    total, filters = 0.0, mel_filters(rate, 2048, 64).double().numpy()
    for size in (64, 128, 256, 512, 1024, 2048):
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
        padded = [np.concatenate([np.zeros(size // 2), wav, np.zeros(size // 2)]) for wav in (output, target)]
        for start in range(0, len(padded[0]) - size + 1, size // 4):
            one, other = (np.abs(np.fft.rfft(wav[start : start + size] * window / window.sum(), 2048)) @ filters for wav in padded)
            total += float(np.abs(one - other).sum())
            logs = np.log(np.maximum(one, 1e-5)) - np.log(np.maximum(other, 1e-5))
            total += math.sqrt(size / 2) * math.sqrt(float((logs**2).sum()))
    return total


def test_the_loss_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    wavs = 0.1 * rng.standard_normal((2, 2, 3000))
    found = SoundStreamSpectra(16000).each(*(torch.from_numpy(wav).float() for wav in wavs))
    wanted = [by_the_formula(wavs[0, row], wavs[1, row], 16000) for row in range(2)]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-3)


def test_every_band_of_every_window_hears_something() -> None:
    spectra = SoundStreamSpectra(16000)
    click = torch.zeros(1, 4096)
    click[0, 2048] = 1.0
    assert all(bool((spectra.mel(click, size).amax((0, 1)) > 0).all()) for size in (64, 2048))


def test_the_same_sound_is_at_no_distance_and_has_a_finite_gradient() -> None:
    wav = torch.randn(1, 2048, requires_grad=True)
    loss = SoundStreamSpectra(16000).each(wav, wav.detach())
    (gradient,) = torch.autograd.grad(loss.sum(), wav)
    assert float(loss.detach()) < 1e-3 and bool(gradient.isfinite().all())


def test_a_codec_trains_by_it_and_is_measured_on_dev_as_any_other(tmp_path: Path) -> None:
    manifest = audio_manifest(tmp_path)
    tasks = [
        CodecTask(codec_options(manifest, tmp_path, reconstruction=name, time_weight=0.0, quantizer_dropout=0.0))
        for name in ("mel", "soundstream")
    ]
    wav = tasks[0]._dataset(1, tasks[0].sources, 1)[0]
    on_dev = [float(task.model.eval()(wav)["codec"].sum.detach()) for task in tasks]
    assert on_dev[0] == pytest.approx(on_dev[1])
    tasks[1].model.train()(wav)
    assert float(tasks[1].model.observed["mel"]) > 100  # a sum over frames
