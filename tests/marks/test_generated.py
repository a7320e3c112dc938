"""The detector of generated speech: what it hears of a sound, and that real speech is not called generated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from valle.audio import read_audio
from valle.marks import generated

SAMPLES = sorted((Path(__file__).parents[2] / "valle" / "assets" / "samples").glob("*.flac"))
RATE = generated.RATE


def test_a_gain_changes_nothing_and_a_wobbling_pitch_does() -> None:
    wav = read_audio(SAMPLES[0], sample_rate=RATE, offset=1, duration=1)[0]
    features = generated.features_of(wav)
    assert np.isfinite(features).all() and np.allclose(features, generated.features_of(wav * 0.1), atol=1e-3)
    times = np.arange(RATE) / RATE
    steady = np.sign(np.sin(2 * np.pi * 150 * times))
    wobbling = np.sign(np.sin(2 * np.pi * 150 * times + 12 * np.sin(2 * np.pi * 6 * times)))
    assert generated.features_of(steady.astype(np.float32))[-1] < generated.features_of(wobbling.astype(np.float32))[-1]


@pytest.mark.parametrize("size", [1, 700, 16000, 100000])
def test_crops_are_seconds_whatever_the_pieces_and_silence_is_none(size: int) -> None:
    wav = np.concatenate([0.1 * np.ones(RATE + 100), np.zeros(2 * RATE), 0.1 * np.ones(RATE)]).astype(np.float32)
    wav = wav[: RATE + 100] if size == 1 else wav
    crops = generated.Crops()
    found = [crop for first in range(0, len(wav), size) for crop in crops.next(wav[first : first + size])]
    assert [len(crop) for crop in found] == [RATE] * (1 if size == 1 else 3)
    assert np.array_equal(found[0], wav[:RATE])


def test_verdicts_are_by_thresholds() -> None:
    one = np.ones(1)
    detector = generated.Detector(mean=0 * one, scale=one, weights=2 * one, bias=-1.0, generated_above=3.0, neither_below=-2.0)
    assert detector.logits(np.array([[0.0], [2.0]])).tolist() == [-1.0, 3.0]
    assert [detector.verdict(logit) for logit in (3.1, 3.0, -2.1)] == ["generated", "cannot-tell", "neither"]


def test_real_speech_is_not_called_generated_and_the_weights_are_small() -> None:
    detector = generated.bundled_detector()
    for path in SAMPLES:
        crops = generated.Crops().next(read_audio(path, sample_rate=RATE)[0])
        logits = [float(detector.logits(generated.features_of(crop))) for crop in crops]
        assert len(logits) >= 3 and detector.verdict(float(np.mean(logits))) != "generated"
    assert sum(path.stat().st_size for path in generated.ASSET.parent.iterdir()) < 200_000
