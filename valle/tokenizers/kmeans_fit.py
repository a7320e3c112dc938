"""K-means on features of any tokenizer, in bounded memory: a uniform sample of frames, standardised, clustered.

Each dimension is standardised by the sample's own mean and deviation (AudioLM, Borsos et al. 2022, III-B), which become part of
the tokenizer: the units must be made as they were learned.  Several processes may each give the features of a share of the
audio: the sample is then of all frames of all of them, every one as likely as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from valle.errors import UserError

Frames = NDArray[np.float32]  # (T, D)

MAX_FRAMES = 400_000  # 4.4 hours at 25 Hz
MAX_BYTES = 256 * 2**20  # of a sample, whatever its dimension
FRAMES_PER_UNIT = 10  # below which a cluster says nothing


class Reservoir:
    """A sample of at most ``size`` frames, every frame that was added as likely as any other (Vitter 1985, algorithm R)."""

    def __init__(self, dim: int, *, seed: int | Sequence[int], size: int = MAX_FRAMES) -> None:
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


class Processes(Protocol):
    """Those that fit together; ``valle.training.distributed.World`` is one."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def gather(self, value: Any) -> list[Any]:
        """Every process's plain ``value``, in the order of ranks."""

    def broadcast(self, value: Any) -> Any:
        """The first process's plain ``value``, on every process."""


@dataclass(frozen=True)
class Alone:
    """One process that fits by itself."""

    rank: int = 0
    size: int = 1

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def broadcast(self, value: Any) -> Any:
        return value


ALONE = Alone()


def fit_features(
    features: Iterable[Frames],
    num_units: int,
    *,
    seed: int,
    seconds_per_frame: float,
    standardise: bool = True,
    processes: Processes = ALONE,
) -> KMeansFit:
    """``num_units`` clusters of a uniform sample of ``features``, each ``(T, D)``; the same on all ``processes``.

    Every process gives the features of its own share of the audio, which may be empty, and all raise the same ``UserError`` if
    there are too few in all.
    """
    frames = sample_frames(features, seed=seed, processes=processes)
    if processes.size == 1:
        return fit_kmeans(frames, num_units, seed=seed, seconds_per_frame=seconds_per_frame, standardise=standardise)
    _require_enough(processes.broadcast(len(frames)), num_units, seconds_per_frame)
    fit = None
    if processes.rank == 0:
        fit = fit_kmeans(frames, num_units, seed=seed, seconds_per_frame=seconds_per_frame, standardise=standardise)
    result: KMeansFit = processes.broadcast(fit)
    return result


def sample_frames(features: Iterable[Frames], *, seed: int, size: int = MAX_FRAMES, processes: Processes = ALONE) -> Frames:
    """A uniform sample ``(N, D)`` of all frames of ``features`` of all processes; none of none, and none but on the first process."""
    reservoir: Reservoir | None = None
    for frames in features:
        # Streams of their own, or all processes would keep frames of the same places.
        reservoir = reservoir or Reservoir(frames.shape[1], seed=seed if processes.size == 1 else (seed, processes.rank), size=size)
        reservoir.add(frames)
    kept, seen = (np.empty((0, 1), np.float32), 0) if reservoir is None else (reservoir.frames, reservoir.seen)
    if processes.size == 1:
        return kept
    shares: list[tuple[int, int]] = processes.gather((seen, 0 if reservoir is None else reservoir.size))
    most = max(capacity for _, capacity in shares)
    counts = share_of_each([seen for seen, _ in shares], most, seed=seed)
    order = np.random.default_rng((seed, processes.rank, 1)).permutation(len(kept))
    parts: list[Frames] = processes.gather(kept[order[: counts[processes.rank]]])
    if processes.rank != 0:
        return np.empty((0, 1), np.float32)
    some = [part for part in parts if len(part)]
    return np.concatenate(some) if some else np.empty((0, 1), np.float32)


def share_of_each(seen: Sequence[int], size: int, *, seed: int) -> list[int]:
    """How many of a uniform sample of ``size`` frames, without replacement, come from each of several that saw ``seen`` frames.

    A draw of the multivariate hypergeometric distribution, exact for any number of frames: so many of each one's own uniform
    sample are together what one process that had seen all would have kept.
    """
    ends = np.cumsum(np.array(seen, np.int64))
    total = int(ends[-1])
    places = np.array(Random(seed).sample(range(total), min(size, total)), np.int64)
    return np.bincount(np.searchsorted(ends, places, side="right"), minlength=len(seen)).tolist()


def fit_kmeans(frames: Frames, num_units: int, *, seed: int, seconds_per_frame: float, standardise: bool = True) -> KMeansFit:
    """``num_units`` clusters of ``frames (N, D)``; without ``standardise``, of the features as they are (mean 0, deviation 1)."""
    from sklearn.cluster import MiniBatchKMeans  # heavy, and tokenizing does without it

    _require_enough(len(frames), num_units, seconds_per_frame)
    if standardise:
        mean, deviation = frames.mean(0), frames.std(0) + 1e-3
    else:
        mean, deviation = np.zeros(frames.shape[1], np.float32), np.ones(frames.shape[1], np.float32)
    model = MiniBatchKMeans(num_units, batch_size=8192, n_init=3, max_iter=60, random_state=seed)
    model.fit((frames - mean) / deviation)
    return KMeansFit(mean, deviation, np.asarray(model.cluster_centers_, dtype=np.float32))


def _require_enough(count: int, num_units: int, seconds_per_frame: float) -> None:
    wanted = FRAMES_PER_UNIT * num_units
    if count < wanted:
        raise UserError(
            f"k-means with {num_units} units needs at least {wanted} frames ({wanted * seconds_per_frame:.0f} s of audio), "
            f"found {count}; give more audio, fewer units, or use the bundled tokenizer"
        )
