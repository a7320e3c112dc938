"""Units fitted on a corpus: made as they were learned, the same every time."""

from __future__ import annotations

import pytest
import torch
from tiny_audio import sound

from valle.errors import UserError
from valle.tokenizers.mfcc import MfccConfig, fit_mfcc_kmeans

CONFIG = MfccConfig(num_units=12)
CORPUS = [sound(seconds, seed=seed) for seed, seconds in enumerate((3.0, 4.0, 2.5))]


def test_features_are_standardised_by_the_corpus_when_fitting_and_when_tokenising() -> None:
    """Centroids of standardised features say nothing of raw ones."""
    tokenizer = fit_mfcc_kmeans(CORPUS, CONFIG, seed=1)
    clips = [(torch.from_numpy(wav)[None], torch.tensor([len(wav)])) for wav in CORPUS]
    features = torch.cat([tokenizer.features(*clip)[0] for clip in clips])
    torch.testing.assert_close(features.mean(0), torch.zeros(39), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(39), atol=0.1, rtol=0)  # a small constant is added to each
    units = torch.cat([tokenizer.encode(*clip)[0][0] for clip in clips])
    assert len(units.unique()) >= 10
    means = torch.stack([features[units == unit].mean(0) for unit in units.unique()])
    assert (means - tokenizer.centroids[units.unique()]).square().mean() < 0.3 * features.var(0).mean()


def test_fitting_repeats_and_depends_on_the_seed() -> None:
    one, again, other = (fit_mfcc_kmeans(CORPUS, CONFIG, seed=seed) for seed in (1, 1, 2))
    assert one.identity == again.identity != other.identity


def test_too_little_audio_for_the_units_is_refused_with_what_is_needed() -> None:
    with pytest.raises(UserError) as refused:
        fit_mfcc_kmeans(CORPUS[:1], MfccConfig(num_units=100), seed=1)
    assert "1000 frames" in str(refused.value) and "found 75" in str(refused.value)


def test_an_odd_number_of_frames_a_unit_is_refused() -> None:
    for changes in ({"frames_per_unit": 3}, {"hop_length": 642}):
        with pytest.raises(UserError, match="an even number of frames must divide a unit's"):
            MfccConfig(**changes)
