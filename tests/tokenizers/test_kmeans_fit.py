"""K-means in bounded memory: every frame as likely as any other, dimensions standardised, refused where there is too little."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_audio import sound
from tiny_training import in_processes

from valle.errors import UserError
from valle.tokenizers.kmeans_fit import MAX_BYTES, Reservoir, fit_kmeans, sample_frames, share_of_each
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans, fit_mfcc_kmeans
from valle.tokenizers.registry import load_semantic, save_tokenizer
from valle.training.distributed import World


def test_a_reservoir_holds_everything_until_it_is_full_and_then_a_sample() -> None:
    reservoir = Reservoir(1, seed=0, size=10)
    for start in range(0, 30, 6):
        reservoir.add(np.arange(start, start + 6, dtype=np.float32)[:, None])
        kept = reservoir.frames[:, 0].tolist()
        assert len(kept) == len(set(kept)) == min(10, start + 6) and max(kept) < start + 6
    assert reservoir.seen == 30


def test_every_frame_is_as_likely_to_be_kept_as_any_other() -> None:
    counts = np.zeros(40)
    for seed in range(2000):
        reservoir = Reservoir(1, seed=seed, size=10)
        for start in (0, 7, 20):
            reservoir.add(np.arange(start, {0: 7, 7: 20, 20: 40}[start], dtype=np.float32)[:, None])
        counts[reservoir.frames[:, 0].astype(int)] += 1
    np.testing.assert_allclose(counts / 2000, 0.25, atol=0.05)


def test_wide_frames_are_fewer() -> None:
    assert Reservoir(2**20, seed=0).size * 4 * 2**20 <= MAX_BYTES < (Reservoir(2**20, seed=0).size + 1) * 4 * 2**20
    assert Reservoir(39, seed=0).size == 400_000


def test_clusters_do_not_depend_on_the_scale_of_a_dimension() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 400)
    frames = np.stack([kinds + 0.05 * rng.standard_normal(400), 1000 * rng.standard_normal(400)], 1).astype(np.float32)
    fit = fit_kmeans(frames, 4, seed=0, seconds_per_frame=0.02)
    standard = (frames - fit.mean) / fit.deviation
    np.testing.assert_allclose(standard.std(0), 1, atol=0.05)
    units = ((standard[:, None] - fit.centroids) ** 2).sum(-1).argmin(1)
    assert all(len(set(kinds[units == unit])) == 1 for unit in range(4))


def test_too_few_frames_are_refused_with_the_audio_that_it_takes() -> None:
    with pytest.raises(UserError, match=r"at least 50 frames \(1 s of audio\), found 49"):
        fit_kmeans(np.zeros((49, 2), np.float32), 5, seed=0, seconds_per_frame=0.02)
    assert sample_frames([], seed=0).shape == (0, 1)


def test_features_may_be_clustered_as_they_are() -> None:
    frames = np.random.default_rng(0).normal(5, 3, (400, 2)).astype(np.float32)
    fit = fit_kmeans(frames, 4, seed=0, seconds_per_frame=0.02, standardise=False)
    assert fit.mean.tolist() == [0, 0] and fit.deviation.tolist() == [1, 1]
    np.testing.assert_allclose(fit.centroids.mean(0), 5, atol=1.5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seen=st.lists(st.integers(0, 50), min_size=1, max_size=5), size=st.integers(1, 60), seed=st.integers(0, 9))
def test_no_process_gives_more_than_it_has_seen_and_all_give_what_is_wanted(seen: list[int], size: int, seed: int) -> None:
    counts = share_of_each(seen, size, seed=seed)
    assert sum(counts) == min(size, sum(seen)) and all(count <= most for count, most in zip(counts, seen, strict=True))


def test_shares_follow_what_each_has_seen_whatever_the_number_of_frames() -> None:
    counts = np.array([share_of_each([100, 0, 300], 40, seed=seed) for seed in range(400)])
    np.testing.assert_allclose(counts.mean(0), [10, 0, 30], atol=0.5)
    assert counts[:, 0].var() == pytest.approx(40 * 0.25 * 0.75 * 360 / 399, rel=0.3)  # of the hypergeometric distribution
    assert share_of_each([4 * 10**10, 0], 5, seed=0) == [5, 0]


class Exchange:
    """Where processes meet that are threads."""

    def __init__(self, size: int) -> None:
        self.values: list[object] = [None] * size
        self.barrier = Barrier(size)


@dataclass(frozen=True)
class Thread:
    rank: int
    size: int
    exchange: Exchange

    def gather(self, value: object) -> list[object]:
        self.exchange.values[self.rank] = value
        self.exchange.barrier.wait()
        values = list(self.exchange.values)
        self.exchange.barrier.wait()
        return values

    def broadcast(self, value: object) -> object:
        return self.gather(value)[0]


def test_a_sample_of_two_processes_holds_every_frame_as_likely_as_any_other() -> None:
    """One has 30 frames and the other 10, of all of which 8 are kept."""
    shares = [np.arange(30, dtype=np.float32)[:, None], np.arange(30, 40, dtype=np.float32)[:, None]]
    counts, exchange = np.zeros(40), Exchange(2)

    def sample(rank: int, seed: int) -> np.ndarray:
        return sample_frames([shares[rank][:7], shares[rank][7:]], seed=seed, size=8, processes=Thread(rank, 2, exchange))

    with ThreadPoolExecutor(2) as pool:
        for seed in range(2000):
            first, second = pool.map(sample, range(2), [seed] * 2)
            assert len(second) == 0 and len(set(first[:, 0])) == 8
            counts[first[:, 0].astype(int)] += 1
    np.testing.assert_allclose(counts / 2000, 0.2, atol=0.04)


CONFIG = MfccConfig(num_units=12)
CORPUS = [sound(seconds, seed=seed) for seed, seconds in enumerate((3.0, 4.0, 2.5, 1.5))]


def fit_share(world: World, folder: Path, share: int) -> None:
    """Every process has ``share`` of the corpus's waveforms; one past their end has none."""
    tokenizer = fit_mfcc_kmeans(CORPUS[share * world.rank : share * (world.rank + 1)], CONFIG, seed=3, processes=world)
    save_tokenizer(tokenizer, folder / str(world.rank))


@pytest.mark.parametrize("share", [2, 4])
def test_two_processes_that_share_the_audio_end_with_one_tokenizer_of_all_of_it(share: int, tmp_path: Path) -> None:
    assert in_processes(fit_share, tmp_path, share, size=2) == [0, 0]
    first, second = (load_semantic(str(tmp_path / str(rank))) for rank in range(2))
    assert first.identity == second.identity and isinstance(first, MfccKMeans)
    alone = fit_mfcc_kmeans(CORPUS, CONFIG, seed=3)
    torch.testing.assert_close(first.mean, alone.mean, rtol=1e-4, atol=1e-4)  # all frames are kept, in another order
    torch.testing.assert_close(first.deviation, alone.deviation, rtol=1e-4, atol=1e-4)


def fit_too_little(world: World, folder: Path) -> None:
    try:
        fit_mfcc_kmeans(CORPUS[world.rank : world.rank + 1], MfccConfig(num_units=100), seed=3, processes=world)
    except UserError as error:
        (folder / str(world.rank)).write_text(str(error))


def test_all_processes_refuse_too_little_audio_together(tmp_path: Path) -> None:
    """One that waited for the others would wait for ever."""
    assert in_processes(fit_too_little, tmp_path, size=2) == [0, 0]
    assert all("1000 frames (40 s of audio), found 175" in (tmp_path / str(rank)).read_text() for rank in range(2))
