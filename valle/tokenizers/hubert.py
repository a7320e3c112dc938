"""Units of a trained speech encoder: the nearest centroid of a layer's standardised states (HuBERT, Hsu et al. 2021; GSLM, AudioLM).

Encoder up to the layer, statistics and centroids are one set of tensors with one hash.  An encoder that attends to everything
is run in windows that begin at fixed places of the clip, each with context on both sides; so a unit depends on a stated
stretch of audio, a prompt has the units of the whole file, and an hour takes the memory of a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from valle.errors import UserError
from valle.tokenizers.base import SemanticTokenizer, padding_mask
from valle.tokenizers.kmeans_fit import KMeansFit
from valle.tokenizers.speech_encoder import SpeechEncoder, SpeechEncoderConfig

BATCH_SECONDS = 60.0  # of windows that are encoded at a time


@dataclass(frozen=True)
class HubertConfig:
    """Sizes; ``encoder.num_layers`` is the layer whose states are clustered, and ``window``, ``left``, ``right`` count units.

    ``left`` and ``right`` are the context of a window where the encoder itself does not bound what it sees.
    """

    name: str = "hubert"
    num_units: int = 200
    frames_per_unit: int = 1  # 1: 50 Hz; 2: 25 Hz, the mean of pairs
    window: int = 50
    left: int = 100
    right: int = 25
    encoder: SpeechEncoderConfig = field(default_factory=SpeechEncoderConfig)

    def __post_init__(self) -> None:
        if self.frames_per_unit not in (1, 2):
            raise UserError(f"expected 1 frame a unit (50 Hz) or 2 (25 Hz), found {self.frames_per_unit}")
        if self.num_units < 2 or self.window < 1 or self.left < 0 or self.right < 0:
            raise UserError(
                "expected 2 or more units, a window of 1 or more and contexts of 0 or more, "
                f"found {self.num_units}, {self.window}, {self.left} and {self.right}"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HubertConfig:
        return cls(**{**values, "encoder": SpeechEncoderConfig(**values["encoder"])})


class _Window(NamedTuple):
    """Samples ``start..stop`` of row ``row``, whose units from ``skip`` on, ``kept`` of them, stand at unit ``first`` of the row."""

    row: int
    start: int
    stop: int
    skip: int
    first: int
    kept: int


class HubertTokenizer(SemanticTokenizer):
    """``T_u = ceil(samples / hop_length)`` units, at the tokenizer's own precision (fp32) whatever the autocast around it."""

    encodes_in_windows = True
    mean: Tensor
    deviation: Tensor
    centroids: Tensor

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.settings = config
        self.encoder = SpeechEncoder(config.encoder)
        self.encoder.transformer.final_norm = None  # the states are taken before it
        self.name, self.sample_rate, self.num_units = config.name, config.encoder.sample_rate, config.num_units
        self.hop_length = config.frames_per_unit * self.encoder.hop_length
        dim = config.encoder.d_model
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        self.register_buffer("centroids", torch.zeros(config.num_units, dim))
        left, right = self.encoder.receptive_field(config.encoder.num_layers)
        # A window's last unit has all of the window before it, its first all of it after it.
        self._left = config.left if left is None else -(-left // self.hop_length)
        self._right = config.right if right is None else -(-right // self.hop_length)
        self.left_context = (config.left + config.window - 1) * self.hop_length if left is None else left
        self.right_context = (config.right + config.window - 1) * self.hop_length if right is None else right
        self._is_bounded_right = right is not None
        self._is_bounded = left is not None and right is not None
        if self._is_bounded:  # windows change nothing, so they may be long
            self._window = max(config.window, 4 * (self._left + self._right))
        else:
            self._window = config.window

    def config(self) -> dict[str, Any]:
        return {"type": "hubert", **asdict(self.settings)}

    def settled(self, num_samples: int) -> int:
        """Where nothing bounds what a window hears ahead, all units of a window settle at once."""
        if self._is_bounded_right:
            return super().settled(num_samples)
        return max(0, num_samples // self.hop_length - self._right) // self._window * self._window

    def heard_from(self, first: int) -> int:
        """Where windows matter, they must begin at the places where the whole clip's do."""
        if self._is_bounded:
            return super().heard_from(first)
        return max(0, first // self._window * self._window - self._left) // self._window * self._window

    def take_clusters(self, fit: KMeansFit) -> None:
        """Statistics and centroids of a fit on this tokenizer's own ``hidden``."""
        for buffer, values in ((self.mean, fit.mean), (self.deviation, fit.deviation), (self.centroids, fit.centroids)):
            buffer.copy_(torch.from_numpy(values))

    def features(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """``wav (B, T)``, ``lengths (B,)`` samples -> standardised states ``(B, T_u, D)``, 0 past a row's end."""
        mask = padding_mask(self._num_units(lengths), self.num_tokens(wav.shape[1]))[..., None]
        return (self.hidden(wav, lengths) - self.mean) / self.deviation * mask

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        counts = self._num_units(lengths)
        units = torch.zeros(len(wav), self.num_tokens(wav.shape[1]), dtype=torch.int64, device=wav.device)
        for window, states in self._windows_encoded(wav, lengths):
            units[window.row, window.first : window.first + window.kept] = self.nearest((states - self.mean) / self.deviation)
        return units, counts

    def nearest(self, features: Tensor) -> Tensor:
        """Standardised features ``(..., D)`` -> the nearest centroids ``(...)``."""
        return (self.centroids.square().sum(1) - 2 * features @ self.centroids.T).argmin(-1)

    @torch.no_grad()
    def hidden(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """The layer's states at the unit rate, before standardisation, ``(B, T_u, D)``; 0 past a row's end."""
        states = torch.zeros(len(wav), self.num_tokens(wav.shape[1]), self.settings.encoder.d_model, device=wav.device)
        for window, piece in self._windows_encoded(wav, lengths):
            states[window.row, window.first : window.first + window.kept] = piece
        return states

    def _windows_encoded(self, wav: Tensor, lengths: Tensor) -> Iterator[tuple[_Window, Tensor]]:
        """Every window with the states ``(kept, D)`` of its own units, few enough at a time."""
        with self.at_precision(wav.device):
            for batch in self._batches(lengths.tolist()):
                sizes = torch.tensor([window.stop - window.start for window in batch], device=wav.device)
                pieces = torch.zeros(len(batch), int(sizes.max()), device=wav.device)
                for piece, window in zip(pieces, batch, strict=True):
                    heard = wav[window.row, window.start : min(window.stop, int(lengths[window.row]))]
                    piece[: len(heard)] = heard
                states = self.encoder(pieces, sizes, layer=self.settings.encoder.num_layers).float()
                states = states.unflatten(1, (-1, self.settings.frames_per_unit)).mean(2)
                for row, window in zip(states, batch, strict=True):
                    yield window, row[window.skip : window.skip + window.kept]

    def _batches(self, lengths: list[int]) -> Iterator[list[_Window]]:
        batch: list[_Window] = []
        longest = 0
        for window in (window for row, length in enumerate(lengths) for window in self._windows(row, length)):
            longest = max(longest, window.stop - window.start)
            if batch and (len(batch) + 1) * longest > BATCH_SECONDS * self.sample_rate:
                yield batch
                batch, longest = [], window.stop - window.start
            batch.append(window)
        if batch:
            yield batch

    def _windows(self, row: int, length: int) -> Iterator[_Window]:
        total = self.num_tokens(length)
        for first in range(0, total, self._window):
            before = min(first, self._left)
            last = min(total, first + self._window + self._right)
            yield _Window(
                row=row, start=(first - before) * self.hop_length, stop=last * self.hop_length, skip=before, first=first,
                kept=min(self._window, total - first),
            )  # fmt: skip

    def _num_units(self, lengths: Tensor) -> Tensor:
        return torch.div(lengths + self.hop_length - 1, self.hop_length, rounding_mode="floor")


def hubert_from_encoder(encoder: SpeechEncoder, config: HubertConfig, *, layer: int) -> HubertTokenizer:
    """A tokenizer, not yet fitted, of ``encoder``'s first ``layer`` blocks, in numbers that half precision holds (so its file is small)."""
    if not 1 <= layer <= encoder.config.num_layers:
        raise UserError(f"expected a layer within 1..{encoder.config.num_layers}, found {layer}")
    tokenizer = HubertTokenizer(replace(config, encoder=replace(encoder.config, num_layers=layer, dropout=0.0)))
    weights = {name: tensor.detach().half().float() for name, tensor in encoder.state_dict().items()}
    wanted = tokenizer.encoder.state_dict()
    tokenizer.encoder.load_state_dict({name: weights[name] for name in wanted})
    return tokenizer.eval().requires_grad_(False)


def build_hubert(config: dict[str, Any]) -> HubertTokenizer:
    """From plain values, as the registry keeps them."""
    return HubertTokenizer(HubertConfig.from_dict(config))
