"""Units of the nearest centroid of an encoder's standardised states (HuBERT, Hsu et al. 2021; GSLM, AudioLM), whoever trained the encoder.

Encoder up to the layer, statistics and centroids are one set of tensors with one hash.  An encoder that attends to everything
is run in windows that begin at fixed places of the clip, each with context on both sides; so a unit depends on a stated
stretch of audio, a prompt has the units of the whole file, and an hour takes the memory of a minute.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from valle.errors import UserError
from valle.modules.masks import valid_mask
from valle.timeline import ceil_division
from valle.tokenizers.base import SemanticTokenizer
from valle.tokenizers.kmeans_fit import KMeansFit

BATCH_SECONDS = 60.0  # of windows that are encoded at a time


@dataclass(frozen=True)
class UnitsConfig:
    """What all such units have; ``window``, ``left``, ``right`` count units.

    ``left`` and ``right`` are the context of a window where the encoder itself does not bound what it sees.
    """

    name: str = "units"
    num_units: int = 200
    frames_per_unit: int = 1  # 1: a unit a frame of the encoder; 2: half as many, of the mean of pairs
    window: int = 50
    left: int = 100
    right: int = 25

    def __post_init__(self) -> None:
        if self.frames_per_unit not in (1, 2):
            raise UserError(f"expected 1 frame a unit (50 Hz) or 2 (25 Hz), found {self.frames_per_unit}")
        if self.num_units < 2 or self.window < 1 or self.left < 0 or self.right < 0:
            raise UserError(
                "expected 2 or more units, a window of 1 or more and contexts of 0 or more, "
                f"found {self.num_units}, {self.window}, {self.left} and {self.right}"
            )


class _Window(NamedTuple):
    """Samples ``start..stop`` of row ``row``, whose units from ``skip`` on, ``kept`` of them, stand at unit ``first`` of the row."""

    row: int
    start: int
    stop: int
    skip: int
    first: int
    kept: int


class ClusteredUnits(SemanticTokenizer):
    """``T_u = ceil(samples / hop_length)`` units, at the tokenizer's own precision (fp32) whatever the autocast around it."""

    encodes_in_windows = True
    batch_seconds: float | None = None  # of windows at a time; None: BATCH_SECONDS
    overhang = 0  # samples after a window's own that its last frame hears whatever the context
    mean: Tensor
    deviation: Tensor
    centroids: Tensor

    def __init__(
        self, config: UnitsConfig, *, sample_rate: int, frame_hop: int, dim: int, reach: tuple[int | None, int | None] = (None, None)
    ) -> None:
        """``frame_hop`` in samples, states of ``dim``; ``reach`` in samples before and after a frame's own, None for without bound."""
        super().__init__()
        self.name, self.num_units, self.frames_per_unit = config.name, config.num_units, config.frames_per_unit
        self.sample_rate, self.hop_length = sample_rate, frame_hop * config.frames_per_unit
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        self.register_buffer("centroids", torch.zeros(config.num_units, dim))
        left, right = reach
        # A window's last unit has all of the window before it, its first all of it after it.
        self._left = config.left if left is None else ceil_division(left, self.hop_length)
        self._right = config.right if right is None else ceil_division(right, self.hop_length)
        self.left_context = (config.left + config.window - 1) * self.hop_length if left is None else left
        self.right_context = (config.right + config.window - 1) * self.hop_length + self.overhang if right is None else right
        self._is_bounded_right = right is not None
        self._is_bounded = left is not None and right is not None
        if self._is_bounded:  # windows change nothing, so they may be long
            self._window = max(config.window, 4 * (self._left + self._right))
        else:
            self._window = config.window

    @abstractmethod
    def states(self, pieces: Tensor, sizes: Tensor, heard: Tensor) -> Tensor:
        """States ``(B, T, D)`` of ``pieces (B, samples)``, each of ``sizes`` samples of which the first ``heard`` are audio."""

    def settled(self, num_samples: int) -> int:
        """Where nothing bounds what a window hears ahead, all units of a window settle at once."""
        if self._is_bounded_right:
            return super().settled(num_samples)
        heard = max(0, num_samples - self.overhang) // self.hop_length
        return max(0, heard - self._right) // self._window * self._window

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
        mask = valid_mask(self._num_units(lengths), self.num_tokens(wav.shape[1]))[..., None]
        return self.standardise(self.hidden(wav, lengths)) * mask

    def standardise(self, states: Tensor) -> Tensor:
        """States ``(..., D)`` as they are compared with centroids."""
        return (states - self.mean) / self.deviation

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        counts = self._num_units(lengths)
        units = torch.zeros(len(wav), self.num_tokens(wav.shape[1]), dtype=torch.int64, device=wav.device)
        for window, states in self._windows_encoded(wav, lengths):
            units[window.row, window.first : window.first + window.kept] = self.nearest(self.standardise(states))
        return units, counts

    def nearest(self, features: Tensor) -> Tensor:
        """Standardised features ``(..., D)`` -> the nearest centroids ``(...)``, in fp32 also under autocast."""
        with torch.autocast(features.device.type, enabled=False):
            return (self.centroids.square().sum(1) - 2 * features @ self.centroids.T).argmin(-1)

    @torch.no_grad()
    def hidden(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """The layer's states at the unit rate, before standardisation, ``(B, T_u, D)``; 0 past a row's end."""
        states = torch.zeros(len(wav), self.num_tokens(wav.shape[1]), len(self.mean), dtype=self.mean.dtype, device=wav.device)
        for window, piece in self._windows_encoded(wav, lengths):
            states[window.row, window.first : window.first + window.kept] = piece
        return states

    def _windows_encoded(self, wav: Tensor, lengths: Tensor) -> Iterator[tuple[_Window, Tensor]]:
        """Every window with the states ``(kept, D)`` of its own units, few enough at a time."""
        with self.at_precision(wav.device):
            for batch in self._batches(lengths.tolist()):
                sizes = [window.stop - window.start + self.overhang for window in batch]
                pieces, heard = torch.zeros(len(batch), max(sizes), dtype=self.mean.dtype, device=wav.device), []
                for piece, window, size in zip(pieces, batch, sizes, strict=True):
                    audio = wav[window.row, window.start : min(window.start + size, int(lengths[window.row]))]
                    piece[: len(audio)] = audio
                    heard.append(len(audio))
                states = self.states(pieces, torch.tensor(sizes, device=wav.device), torch.tensor(heard, device=wav.device))
                states = states.to(self.mean.dtype)
                states = states.unflatten(1, (-1, self.frames_per_unit)).mean(2)
                for row, window in zip(states, batch, strict=True):
                    yield window, row[window.skip : window.skip + window.kept]

    def _batches(self, lengths: list[int]) -> Iterator[list[_Window]]:
        batch: list[_Window] = []
        longest, most = 0, (self.batch_seconds or BATCH_SECONDS) * self.sample_rate
        for window in (window for row, length in enumerate(lengths) for window in self._windows(row, length)):
            longest = max(longest, window.stop - window.start)
            if batch and (len(batch) + 1) * longest > most:
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
