"""Batches of an indexed corpus: the tokens of the cuts that a plan names, whoever reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_loader import CROPS, SETTINGS
from tiny_corpus import Corpus, write_corpus
from tiny_training import differences, tiny_loop, tiny_options, train

from valle.corpora.manifests import read_lines
from valle.data.dataset import TokenDataset
from valle.data.indexed import choose_indexed, indexed_batches
from valle.data.loader import choose_cuts
from valle.models.checkpoint import load_checkpoint
from valle.tokenizing.cut_index import CutIndex, write_index
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World


def indexed(folder: Path, **sizes: int) -> TokenManifests:
    """A corpus whose train cuts have an index."""
    manifests = write_corpus(folder, Corpus(**{"num_train": 60, "num_dev": 4, **sizes}))
    write_index(((line, -1) for line in read_lines(manifests / "cuts_train.jsonl.gz")), manifests, "train")
    return read_manifests(manifests)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> TokenManifests:
    return indexed(tmp_path_factory.mktemp("indexed"))


@pytest.fixture(scope="module")
def index(manifests: TokenManifests) -> CutIndex:
    found = manifests.index("train")
    assert found is not None
    return found


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_epoch_reads_the_batches_of_the_whole_one(manifests: TokenManifests, index: CutIndex, num_workers: int) -> None:
    dataset = TokenDataset(manifests, CROPS, epoch=1)

    def some(skip: int, workers: int) -> list:
        return list(indexed_batches(index, dataset, SETTINGS, epoch=1, skip=skip, rank=0, world_size=1, num_workers=workers))

    whole = some(0, 0)
    assert len(whole) > 3 and sum(len(batch["coarse"]["lengths"]) for batch in whole) == 60
    assert differences(whole[2:], some(2, num_workers)) == []


def test_a_rank_parses_its_own_cuts_alone(manifests: TokenManifests, index: CutIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler of lhotse makes the batches of all ranks and gives each its own; millions of cuts take minutes so."""
    parsed: list[int] = []
    read = CutIndex.cuts
    monkeypatch.setattr(CutIndex, "cuts", lambda self, numbers: parsed.extend(numbers) or read(self, numbers))
    dataset = TokenDataset(manifests, CROPS, epoch=1)
    for rank in range(3):
        before = len(parsed)
        rest = list(indexed_batches(index, dataset, SETTINGS, epoch=1, skip=1, rank=rank, world_size=3, num_workers=0))
        assert len(parsed) - before == sum(len(batch["coarse"]["lengths"]) for batch in rest) < 60 / 3


def test_the_cuts_for_validation_are_those_that_would_be_chosen_without_an_index(manifests: TokenManifests, index: CutIndex) -> None:
    for most in (1, 7, 60, 100):
        for some in (SETTINGS, replace(SETTINGS, min_cut=2.0, max_cut=3.0)):
            expected = [cut.id for cut in choose_cuts(manifests.cuts("train"), some, most=most)]
            assert [cut.id for cut in choose_indexed(index, some, most=most)] == expected


def test_too_few_cuts_are_refused_as_without_an_index(manifests: TokenManifests, index: CutIndex) -> None:
    dataset = TokenDataset(manifests, CROPS, epoch=1)
    with pytest.raises(ManifestError, match=r"at least one training cut for each of 61 processes, found 60; lower --world-size"):
        list(indexed_batches(index, dataset, SETTINGS, epoch=1, skip=0, rank=0, world_size=61, num_workers=0))
    nothing = replace(SETTINGS, min_cut=50.0, max_cut=60.0)
    with pytest.raises(ManifestError, match="expected training cuts of 50 to 60 s, found none"):
        list(indexed_batches(index, dataset, nothing, epoch=1, skip=0, rank=0, world_size=1, num_workers=0))


def test_an_indexed_run_cut_short_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    folder = indexed(tmp_path / "corpus", num_train=14).folder
    whole = train(tiny_options(folder, tmp_path / "whole"))
    train_some = tiny_options(folder, tmp_path / "cut", max_steps=7)
    tiny_loop(train_some).run()
    assert load_checkpoint(tmp_path / "cut" / "checkpoint-7.pt")["counters"]["batch"] > 0
    again = train(tiny_options(folder, tmp_path / "cut"))
    assert differences(whole["model"], again["model"]) == []


def test_the_task_takes_the_index_where_there_is_one(tmp_path: Path) -> None:
    task = AudioLMTask(tiny_options(indexed(tmp_path).folder, tmp_path / "exp"))
    (task.manifests.folder / "cuts_train.jsonl").rename(tmp_path / "away")
    with pytest.raises(Exception, match="to belong to the cuts beside them"):
        next(iter(task.batches(epoch=1, skip=0, world=World())))
    (tmp_path / "away").rename(task.manifests.folder / "cuts_train.jsonl")
    first = next(iter(task.batches(epoch=1, skip=0, world=World())))
    assert torch.is_tensor(first["coarse"]["codes"])
