"""Pieces of audio for the codec: a function of (seed, epoch, number), from every corpus by its share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import MonoCut, Recording
from tiny_audio import write_sound

from valle.audio import read_audio
from valle.corpora.manifests import write_cuts
from valle.data.manifests import ManifestError
from valle.data.segments import SegmentDataset, Source, segment_batches


def write_corpus(folder: Path, name: str, lengths: list[float], *, rate: int = 16000) -> Path:
    """Cuts that lie at 0.5 s of recordings."""
    cuts = []
    for number, seconds in enumerate(lengths):
        path = write_sound(folder / name / f"{number}.wav", seconds + 1, rate=rate, seed=number)
        cuts.append(MonoCut(id=f"{name}-{number}", start=0.5, duration=seconds, channel=0, recording=Recording.from_file(path)))
    write_cuts(cuts, folder / f"{name}.jsonl.gz")
    return folder / f"{name}.jsonl.gz"


def dataset(sources: list[Source], *, epoch: int = 1, seed: int = 7, batch_size: int = 4, num_samples: int = 8000) -> SegmentDataset:
    return SegmentDataset(
        sources, sample_rate=16000, num_samples=num_samples, batch_size=batch_size, num_batches=5, seed=seed, epoch=epoch
    )  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    folder = tmp_path_factory.mktemp("audio")
    speech = Source.read(write_corpus(folder, "speech", [0.6, 1.5, 2.0, 0.2]), 0.75, min_seconds=0.5)
    piano = Source.read(write_corpus(folder, "piano", [1.0, 1.2], rate=44100), 0.25, min_seconds=0.5)
    return [speech, piano]


def test_a_batch_is_a_function_of_seed_epoch_and_number(sources: list[Source]) -> None:
    first = dataset(sources)[3]
    assert first.shape == (4, 8000) and first.dtype == torch.float32 and first.abs().max() <= 1
    assert torch.equal(dataset(sources)[3], first)
    for other in (dataset(sources)[2], dataset(sources, epoch=2)[3], dataset(sources, seed=8)[3]):
        assert not torch.equal(other, first)


def test_resuming_and_workers_change_nothing(sources: list[Source]) -> None:
    whole = list(segment_batches(dataset(sources), skip=0, num_workers=0))
    assert len(whole) == 5
    for skip, num_workers in ((2, 0), (3, 1)):
        tail = list(segment_batches(dataset(sources), skip=skip, num_workers=num_workers))
        assert len(tail) == 5 - skip and all(map(torch.equal, tail, whole[skip:]))


def test_a_piece_lies_within_its_cut_and_only_its_gain_is_changed(sources: list[Source]) -> None:
    speech = [Source(cuts=[cut], share=1.0) for cut in sources[0].cuts]
    for source in speech:
        cut = source.cuts[0]
        whole, _ = read_audio(Path(cut.recording.sources[0].source), sample_rate=16000)
        within = whole[8000 : 8000 + round(cut.duration * 16000) + 200]
        for piece in dataset([source])[0].numpy():
            scores = np.correlate(within, piece, "valid")
            place = int(scores.argmax())
            found = within[place : place + len(piece)]
            gain = float(found @ piece / (found @ found))
            assert 10 ** (-6.1 / 20) < gain < 10 ** (4.1 / 20)
            np.testing.assert_allclose(piece, gain * found, atol=1e-3)


def test_corpora_are_heard_by_their_share_and_short_cuts_never(sources: list[Source]) -> None:
    assert [cut.id for cut in sources[0].cuts] == ["speech-0", "speech-1", "speech-2"]
    weighted = dataset(sources)
    chosen = np.searchsorted(weighted.bounds, (np.arange(1000) + 0.5) / 1000)
    assert np.bincount(chosen).tolist() == [750, 250]


def test_a_manifest_that_is_missing_or_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"expected a manifest of cuts at .*nowhere.*, found nothing there; run stage 1"):
        Source.read(tmp_path / "nowhere.jsonl.gz", 1.0, min_seconds=1.0)
    path = write_corpus(tmp_path, "short", [0.4])
    with pytest.raises(ManifestError, match=r"expected cuts of at least 1 s in .*, found none; lower --segment-seconds"):
        Source.read(path, 1.0, min_seconds=1.0)
