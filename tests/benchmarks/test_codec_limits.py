"""What limits a codec: the program, on a sample of speech."""

import json
from pathlib import Path

import numpy as np
import torch

from benchmarks import codec_limits
from benchmarks.memory import SAMPLES
from valle.audio import read_audio
from valle.tokenizers.convnext_codec import ConvNeXtCodec
from valle.tokenizers.registry import load_acoustic
from valle.tokenizers.residual_codec import ResidualCodec


def test_better_parts_make_a_better_sound(tmp_path: Path) -> None:
    sample = min(SAMPLES.glob("*.flac"))
    codec_limits.main(["--audio", str(sample), "--griffin-lim", "1", "--output", str(tmp_path / "limits.json")])
    systems = json.loads((tmp_path / "limits.json").read_text(encoding="utf-8"))["codecs"]["valle-convnext"]
    stoi = {name: of["stoi"]["mean"] for name, of in systems.items()}
    assert len(stoi) == 7 and stoi["its magnitudes, the recording's phases"] > stoi["its codes"] > 0.7
    assert stoi["the recording's magnitudes, its phases"] > stoi["its codes"]
    from_chance, from_its = (stoi[f"the recording's magnitudes, 32 steps from {phases} phases"] for phases in ("random", "its"))
    assert min(from_chance, from_its) > 0.97  # magnitudes alone hold nearly all
    assert stoi["its codes, 1 steps behind the decoder"] < stoi["its codes"]  # the decoder's magnitudes are none of a sound


def test_griffin_lim_keeps_magnitudes_and_makes_spectra_more_consistent() -> None:
    codec = load_acoustic("valle-convnext")
    assert isinstance(codec, ConvNeXtCodec)
    wav = torch.from_numpy(read_audio(min(SAMPLES.glob("*.flac")), duration=1.0)[0])[None]
    magnitude = codec.heard(codec._stft(wav)).abs()
    phase = 6.28 * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0))
    found = [codec_limits.griffin_lim(magnitude, phase, steps, codec.heard) for steps in (0, 4, 16)]
    assert all(torch.allclose(spectrum.abs(), magnitude, atol=1e-4) for spectrum in found)
    inconsistent = [float(codec.inconsistency(spectrum)) for spectrum in found]
    assert inconsistent == sorted(inconsistent, reverse=True) and inconsistent[-1] < 0.6 * inconsistent[0]


def test_its_codes_are_what_it_decodes() -> None:
    codec = load_acoustic("valle-16khz")
    assert isinstance(codec, ResidualCodec)
    wav, rate = read_audio(min(SAMPLES.glob("*.flac")), duration=2.0)
    assert rate == codec.sample_rate
    wav = wav[: len(wav) // codec.hop_length * codec.hop_length]
    length = torch.tensor([len(wav)])
    decoded = codec.decode(*codec.encode(torch.from_numpy(wav)[None], length))[0].numpy()
    np.testing.assert_allclose(codec_limits.variants(codec, torch.from_numpy(wav))["its codes"], decoded, atol=1e-5)
