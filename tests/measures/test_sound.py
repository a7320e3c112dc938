import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.measures.sound import has_pesq, mel_l1, pesq_wb, si_sdr, silence_share, stoi

RATE = 16000


def speechlike(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Noise whose loudness goes up and down as often as syllables do."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    wav = generator.standard_normal(len(time)) * (0.2 + np.sin(2 * np.pi * 4 * time) ** 2) * np.sin(2 * np.pi * 0.7 * time) ** 2
    return (0.1 * wav).astype(np.float32)


def test_a_sound_is_as_near_to_itself_as_can_be() -> None:
    wav = speechlike()
    assert stoi(wav, wav, RATE) == pytest.approx(1, abs=1e-6)
    assert mel_l1(wav, wav, RATE) == 0
    assert si_sdr(wav, wav) == 100


def test_silence_scores_worst() -> None:
    wav = speechlike()
    silence = np.zeros_like(wav)
    noisy = wav + 0.03 * np.random.default_rng(1).standard_normal(len(wav)).astype(np.float32)
    assert stoi(silence, wav, RATE) < 0.1 < stoi(noisy, wav, RATE) < 1
    assert mel_l1(silence, wav, RATE) > mel_l1(noisy, wav, RATE) > 0
    assert si_sdr(silence, wav) == -100 < si_sdr(noisy, wav) < 20


def test_more_noise_is_worse_by_every_measure() -> None:
    wav, noise = speechlike(), np.random.default_rng(2).standard_normal(3 * RATE).astype(np.float32)
    outputs = [wav + gain * noise for gain in (0.01, 0.1, 1)]
    for scores in ([stoi(output, wav, RATE) for output in outputs], [si_sdr(output, wav) for output in outputs]):
        assert scores == sorted(scores, reverse=True)
    distances = [mel_l1(output, wav, RATE) for output in outputs]
    assert distances == sorted(distances)


def test_si_sdr_equals_the_ratio_of_the_added_noise() -> None:
    generator = np.random.default_rng(0)
    wav, noise = generator.standard_normal(100_000), generator.standard_normal(100_000)
    wav, noise = wav - wav.mean(), noise - noise.mean()
    noise -= (noise @ wav) / (wav @ wav) * wav
    noise *= np.sqrt((wav @ wav) / (noise @ noise)) * 10 ** (-13 / 20)
    assert si_sdr((wav + noise).astype(np.float32), wav.astype(np.float32)) == pytest.approx(13, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-2, 1e2), seed=st.integers(0, 10))
def test_si_sdr_does_not_hear_loudness(scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    wav = generator.standard_normal(4000).astype(np.float32)
    output = wav + generator.standard_normal(4000).astype(np.float32)
    assert si_sdr(np.float32(scale) * output, wav) == pytest.approx(si_sdr(output, wav), abs=1e-3)


def test_stoi_of_too_little_speech_is_nan_not_a_number_that_looks_bad() -> None:
    wav = speechlike(3)
    assert np.isnan(stoi(wav[:1000], wav[:1000], RATE))
    mostly_silent = np.concatenate([wav[: RATE // 4], np.zeros(3 * RATE, np.float32)])
    assert np.isnan(stoi(mostly_silent, mostly_silent, RATE))


def test_the_longer_sound_is_cut() -> None:
    wav = speechlike()
    longer = np.concatenate([wav, np.ones(500, np.float32)])
    assert si_sdr(longer, wav) == 100
    assert mel_l1(wav, longer, RATE) == 0


def test_shapes_that_are_no_mono_sound_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 10\)"):
        si_sdr(np.zeros((2, 10), np.float32), np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="found none"):
        mel_l1(np.zeros(0, np.float32), np.zeros(10, np.float32), RATE)


def test_silence_share() -> None:
    wav = np.concatenate([np.ones(RATE, np.float32), np.zeros(3 * RATE, np.float32)])
    assert silence_share(wav, RATE) == 0.75
    assert silence_share(np.zeros(RATE, np.float32), RATE) == 1
    assert silence_share(np.zeros(0, np.float32), RATE) == 1


@pytest.mark.skipif(not has_pesq(), reason="needs the extra pesq")
def test_pesq_falls_with_noise_and_is_undefined_without_sound() -> None:
    wav, noise = speechlike(), np.random.default_rng(2).standard_normal(3 * RATE).astype(np.float32)
    scores = [pesq_wb(wav + gain * noise, wav, RATE) for gain in (0, 0.01, 0.1)]
    assert scores[0] == pytest.approx(4.64, abs=0.01) and scores[0] > scores[1] > scores[2] > 1
    assert np.isnan(pesq_wb(np.zeros_like(wav), wav, RATE)) and np.isnan(pesq_wb(wav[:1000], wav[:1000], RATE))
