"""What limits a codec: the program, on a sample of speech."""

import json
from pathlib import Path

import numpy as np
import torch

from benchmarks import codec_limits
from benchmarks.memory import SAMPLES
from valle.audio import read_audio
from valle.tokenizers.registry import load_acoustic
from valle.tokenizers.residual_codec import ResidualCodec


def test_better_parts_make_a_better_sound(tmp_path: Path) -> None:
    sample = min(SAMPLES.glob("*.flac"))
    codec_limits.main(["--audio", str(sample), "--output", str(tmp_path / "limits.json")])
    systems = json.loads((tmp_path / "limits.json").read_text(encoding="utf-8"))["codecs"]["valle-convnext"]
    stoi = {name: of["stoi"]["mean"] for name, of in systems.items()}
    assert len(stoi) == 4 and stoi["its magnitudes, the recording's phases"] > stoi["its codes"] > 0.7
    assert stoi["the recording's magnitudes, its phases"] > stoi["its codes"]


def test_its_codes_are_what_it_decodes() -> None:
    codec = load_acoustic("valle-16khz")
    assert isinstance(codec, ResidualCodec)
    wav, rate = read_audio(min(SAMPLES.glob("*.flac")), duration=2.0)
    assert rate == codec.sample_rate
    wav = wav[: len(wav) // codec.hop_length * codec.hop_length]
    length = torch.tensor([len(wav)])
    decoded = codec.decode(*codec.encode(torch.from_numpy(wav)[None], length))[0].numpy()
    np.testing.assert_allclose(codec_limits.variants(codec, torch.from_numpy(wav))["its codes"], decoded, atol=1e-5)
