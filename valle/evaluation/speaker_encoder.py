"""Speaker encoders that nobody here trained, as judges: how alike are two voices?

- **GE2E** (Wan et al. 2018) with the weights inside the package Resemblyzer (Apache-2.0).  Only its file of weights is read, never its
  code, so that ``pip install --no-deps resemblyzer`` is enough.
- **WavLM** with an x-vector head (Chen et al. 2022), such as ``microsoft/wavlm-base-plus-sv``, by transformers, from a folder or
  from the hub's cache.  Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy import float64
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from valle.audio import Waveform, resample
from valle.errors import UserError
from valle.measures.level import speech_gain_db, with_gain

RATE = 16000  # Hz, of both encoders
SHORTEST_SECONDS = 0.5

NUM_MELS, WINDOW, HOP = 40, 400, 160  # of GE2E: 25 ms every 10 ms
PARTIAL_FRAMES, PARTIALS_A_SECOND, LEAST_COVERAGE = 160, 1.3, 0.75  # windows of 1.6 s whose embeddings are averaged
WIDTH, LAYERS = 256, 3


class SpeakerEncoderError(UserError):
    """An encoder whose files are not there or do not fit."""


class SpeakerEncoder(Protocol):
    """Anything that turns a voice into a direction."""

    @property
    def name(self) -> str: ...

    def embed(self, wav: Waveform, sample_rate: int) -> NDArray[float64] | None:
        """``wav (T,)`` -> a vector of length one; None of less than half a second, or of no sound at all."""


class GE2E(nn.Module):
    """Three LSTM layers over 40 mel bands of power (not its logarithm), the last state projected, rectified and made length one."""

    def __init__(self) -> None:
        from transformers.audio_utils import mel_filter_bank  # a second to import

        super().__init__()
        self.filters: Tensor
        self.lstm = nn.LSTM(NUM_MELS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)
        bins = WINDOW // 2 + 1
        filters = mel_filter_bank(bins, NUM_MELS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)

    def mels(self, wav: Tensor) -> Tensor:
        """``wav (T,)`` -> ``(T // HOP + 1, NUM_MELS)``."""
        spectrum = torch.stft(wav, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, pad_mode="constant", return_complex=True)
        return spectrum.abs().square().T @ self.filters

    def forward(self, wav: Tensor) -> Tensor:
        """``wav (T,)`` at 16 kHz -> ``(WIDTH,)``, the mean over windows, of length one."""
        starts = partial_starts(len(wav))
        padded = F.pad(wav, (0, max(0, (starts[-1] + PARTIAL_FRAMES) * HOP - len(wav))))
        mels = self.mels(padded)
        _, (hidden, _) = self.lstm(torch.stack([mels[start : start + PARTIAL_FRAMES] for start in starts]))
        each = F.normalize(F.relu(self.linear(hidden[-1])), dim=1)
        return F.normalize(each.mean(0), dim=0)


def partial_starts(num_samples: int) -> list[int]:
    """First frames of the windows that cover a clip: a last one that the clip fills by less than three quarters is left out."""
    frames, step = -(-(num_samples + 1) // HOP), round(RATE / PARTIALS_A_SECOND / HOP)
    starts = list(range(0, max(1, frames - PARTIAL_FRAMES + step + 1), step))
    coverage = (num_samples / HOP - starts[-1]) / PARTIAL_FRAMES
    return starts[:-1] if coverage < LEAST_COVERAGE and len(starts) > 1 else starts


class ResemblyzerEncoder:
    """GE2E with Resemblyzer's weights."""

    name = "Resemblyzer"

    def __init__(self, weights: Path) -> None:
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
            self.model = GE2E().eval()
            self.model.load_state_dict({name: value for name, value in state.items() if name.startswith(("lstm.", "linear."))})
        except Exception as error:  # torch's and pickle's many ways to say that a file is another one
            raise SpeakerEncoderError(
                f"expected Resemblyzer's weights in {weights}, found another file ({error}); install it again"
            ) from error

    def embed(self, wav: Waveform, sample_rate: int) -> NDArray[float64] | None:
        heard = _as_heard(wav, sample_rate)
        if heard is None:
            return None
        with torch.inference_mode():
            return _plain(self.model(heard))


class WavLMEncoder:
    """WavLM with an x-vector head, by transformers."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoFeatureExtractor, WavLMForXVector

        self.name = Path(folder).name
        try:
            self.features: Any = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
            self.model: Any = WavLMForXVector.from_pretrained(folder, local_files_only=True, use_safetensors=None).eval()
        except (OSError, ValueError) as error:
            raise SpeakerEncoderError(
                f"expected resemblyzer, a folder of WavLM for speakers, or its name in the hub's cache for --speaker {folder}, found none; "
                "pip install --no-deps resemblyzer, or put the files of microsoft/wavlm-base-plus-sv into a folder"
            ) from error

    def embed(self, wav: Waveform, sample_rate: int) -> NDArray[float64] | None:
        heard = _as_heard(wav, sample_rate)
        if heard is None:
            return None
        with torch.inference_mode():
            inputs = self.features(heard.numpy(), sampling_rate=RATE, return_tensors="pt")
            return _plain(F.normalize(self.model(**inputs).embeddings[0], dim=0))


def speaker_encoder(name: str) -> SpeakerEncoder:
    """``resemblyzer``, a folder of WavLM's files, or its name in the hub's cache; raises ``SpeakerEncoderError``."""
    if name != "resemblyzer":
        return WavLMEncoder(name)
    spec = find_spec("resemblyzer")
    if spec is None or not spec.submodule_search_locations:
        raise SpeakerEncoderError(
            "--speaker resemblyzer needs the package's weights, which are not installed; pip install --no-deps resemblyzer"
        )
    return ResemblyzerEncoder(Path(spec.submodule_search_locations[0]) / "pretrained.pt")


def cosines(encoder: SpeakerEncoder, left: Sequence[Waveform], right: Sequence[Waveform], sample_rate: int) -> list[float]:
    """Cosine between the voices of each pair; 0 where one of them has no voice."""
    pairs = zip((encoder.embed(wav, sample_rate) for wav in left), (encoder.embed(wav, sample_rate) for wav in right), strict=True)
    return [0.0 if a is None or b is None else float(a @ b) for a, b in pairs]


def _as_heard(wav: Waveform, sample_rate: int) -> Tensor | None:
    """At 16 kHz and one level of speech; None where there is too little to judge."""
    if len(wav) < SHORTEST_SECONDS * sample_rate or not wav.any():
        return None
    return torch.from_numpy(resample(with_gain(wav, speech_gain_db(wav, sample_rate)), sample_rate, RATE))


def _plain(vector: Tensor) -> NDArray[float64]:
    plain: NDArray[float64] = vector.double().numpy()
    return plain
