"""Speech encoders of random weights that run in a moment, and a spoken corpus of tones with phones and speakers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem

from valle.audio import write_wav
from valle.corpora.manifests import write_cuts
from valle.tokenizers.hubert import HubertConfig, HubertTokenizer, hubert_from_encoder
from valle.tokenizers.kmeans_fit import fit_kmeans
from valle.tokenizers.speech_encoder import SpeechEncoder, SpeechEncoderConfig

RATE = 16000
TONES = {"a": 400.0, "e": 900.0, "i": 1800.0, "o": 3200.0}  # Hz of each phone
SIZES: dict[str, Any] = {"d_model": 32, "nhead": 2, "num_layers": 3, "dim_feedforward": 64, "positional_groups": 4, "wave_channels": 32}


def tiny_encoder(**changes: Any) -> SpeechEncoder:
    """With weights so large that every input shows in the output."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(SpeechEncoderConfig(**{**SIZES, **changes})).eval()
    for parameter in encoder.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(1.5)
    encoder.front_end.take_statistics(torch.from_numpy(babble(3.0, seed=99))[None], torch.tensor([3 * RATE]))
    return encoder


def tiny_hubert(*, layer: int = 2, frames_per_unit: int = 1, num_units: int = 20, **changes: Any) -> HubertTokenizer:
    """Units of windows of 10 with 20 before and 5 after, fitted on babble."""
    config = HubertConfig(num_units=num_units, frames_per_unit=frames_per_unit, window=10, left=20, right=5)
    tokenizer = hubert_from_encoder(tiny_encoder(**changes), config, layer=layer)
    wav = torch.from_numpy(babble(12.0, seed=98))[None]
    frames = tokenizer.hidden(wav, torch.tensor([wav.shape[1]]))[0].numpy()
    tokenizer.take_clusters(fit_kmeans(frames, num_units, seed=0, seconds_per_frame=0.02))
    return tokenizer


def babble(seconds: float, *, seed: int) -> np.ndarray:
    """Phones of 60 to 200 ms in any order, ``(T,)`` float32."""
    rng = np.random.default_rng(seed)
    return utter([(str(rng.choice(list(TONES))), float(rng.uniform(0.06, 0.2))) for _ in range(int(seconds / 0.06))], seed=seed)[
        : round(seconds * RATE)
    ]


def utter(phones: list[tuple[str, float]], *, seed: int = 0, shift: float = 1.0) -> np.ndarray:
    """``(phone, seconds)`` one after another, in a voice whose tones lie ``shift`` times as high."""
    rng = np.random.default_rng(seed)
    pieces = []
    for phone, seconds in phones:
        time = np.arange(round(seconds * RATE)) / RATE
        pieces.append(0.3 * np.sin(2 * np.pi * TONES[phone] * shift * time) + 0.1 * np.sin(2 * np.pi * 120 * shift * time))
    wav = np.concatenate(pieces)
    return (wav + 0.003 * rng.standard_normal(len(wav))).astype(np.float32)


def write_spoken(path: Path, *, num_cuts: int, seed: int, phones: bool = True, speakers: bool = True) -> Path:
    """A manifest of cuts of 16 phones of 100 ms by three voices in turn, with phone times, and their wavs beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cuts = []
    for number in range(num_cuts):
        said = [str(rng.choice(list(TONES))) for _ in range(16)]
        voice = number % 3
        wav = path.parent / f"{path.name.split('.')[0]}-{number}.wav"
        write_wav(wav, utter([(phone, 0.1) for phone in said], seed=seed + number, shift=1 + 0.12 * voice), RATE)
        source = AudioSource(type="file", channels=[0], source=str(wav))
        recording = Recording(id=wav.stem, sources=[source], sampling_rate=RATE, num_samples=16 * 1600, duration=1.6)
        times = [AlignmentItem(phone, round(0.1 * place, 4), 0.1) for place, phone in enumerate(said)]
        supervision = SupervisionSegment(
            id=wav.stem, recording_id=wav.stem, start=0, duration=1.6, speaker=f"voice {voice}" if speakers else None,
            custom={"voice_is_in_train": voice < 2}, alignment={"phone": times} if phones else None,
        )  # fmt: skip
        cuts.append(MonoCut(id=wav.stem, start=0, duration=1.6, channel=0, recording=recording, supervisions=[supervision]))
    write_cuts(cuts, path)
    return path
