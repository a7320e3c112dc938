"""K-means on features of any tokenizer, in bounded memory: a uniform sample of frames, standardised, clustered.

Each dimension is standardised by the sample's own mean and deviation (AudioLM, Borsos et al. 2022, III-B), which become part of
the tokenizer: the units must be made as they were learned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valle.errors import UserError

Frames = NDArray[np.float32]  # (T, D)

MAX_FRAMES = 400_000  # 4.4 hours at 25 Hz
MAX_BYTES = 256 * 2**20  # of a sample, whatever its dimension
FRAMES_PER_UNIT = 10  # below which a cluster says nothing


class Reservoir:
    """A sample of at most ``size`` frames, every frame that was added as likely as any other (Vitter 1985, algorithm R)."""

    def __init__(self, dim: int, *, seed: int, size: int = MAX_FRAMES) -> None:
        self.size = min(size, max(1, MAX_BYTES // (4 * dim)))
        self.seen = 0
        self._rng = np.random.default_rng(seed)
        self._kept = np.empty((self.size, dim), np.float32)

    def add(self, frames: Frames) -> None:
        positions = np.arange(self.seen, self.seen + len(frames))
        slots = np.where(positions < self.size, positions, (self._rng.random(len(frames)) * (positions + 1)).astype(np.int64))
        kept = slots < self.size
        self._kept[slots[kept]] = frames[kept]
        self.seen += len(frames)

    @property
    def frames(self) -> Frames:
        """``(N, D)``."""
        return self._kept[: min(self.seen, self.size)]


@dataclass(frozen=True)
class KMeansFit:
    """Statistics ``(D,)`` of the features, and centroids ``(K, D)`` among the standardised ones."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    centroids: NDArray[np.float32]


def sample_frames(features: Iterable[Frames], *, seed: int) -> Frames:
    """A uniform sample ``(N, D)`` of all frames of ``features``; none of none."""
    reservoir: Reservoir | None = None
    for frames in features:
        reservoir = reservoir or Reservoir(frames.shape[1], seed=seed)
        reservoir.add(frames)
    return np.empty((0, 1), np.float32) if reservoir is None else reservoir.frames


def fit_kmeans(frames: Frames, num_units: int, *, seed: int, seconds_per_frame: float) -> KMeansFit:
    """``num_units`` clusters of ``frames (N, D)``."""
    from sklearn.cluster import MiniBatchKMeans  # heavy, and tokenizing does without it

    wanted = FRAMES_PER_UNIT * num_units
    if len(frames) < wanted:
        raise UserError(
            f"k-means with {num_units} units needs at least {wanted} frames ({wanted * seconds_per_frame:.0f} s of audio), "
            f"found {len(frames)}; give more audio, fewer units, or use the bundled tokenizer"
        )
    mean, deviation = frames.mean(0), frames.std(0) + 1e-3
    model = MiniBatchKMeans(num_units, batch_size=8192, n_init=3, max_iter=60, random_state=seed)
    model.fit((frames - mean) / deviation)
    return KMeansFit(mean, deviation, np.asarray(model.cluster_centers_, dtype=np.float32))
