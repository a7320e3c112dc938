"""K-means in bounded memory: every frame as likely as any other, dimensions standardised, refused where there is too little."""

import numpy as np
import pytest

from valle.errors import UserError
from valle.tokenizers.kmeans_fit import MAX_BYTES, Reservoir, fit_kmeans, sample_frames


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
