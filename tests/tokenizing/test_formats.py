"""HDF5, Shar and flat int16: the same cuts and the same tokens, whichever way they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from lhotse.cut import Cut
from test_tokenize_cuts import content, save_tiny_tokenizers, write_manifests
from tiny_crops import tiny_crops

from valle.corpora.report_reasons import PARTS
from valle.data.dataset import TokenDataset, read_tokens
from valle.data.loader import SamplerSettings, choose_cuts, epoch_batches
from valle.tokenizing.finish_cuts import FinishConfig, finish_cuts
from valle.tokenizing.flat_tokens import FlatTokensError, open_flat
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests
from valle.tokenizing.tokenize_cuts import TokenizeConfig, tokenize_cuts

FORMATS = ("hdf5", "shar", "memmap")
CROPS = tiny_crops(seconds={"semantic": 2.0, "coarse": 1.0, "fine": 0.5}, num_quantizers=3, seed=1)
SAMPLER = SamplerSettings(
    max_duration=3.0, num_buckets=2, buffer_size=10, shuffle_buffer_size=10, drop_last=False, min_cut=0.1, max_cut=9.0, seed=3
)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenManifests]:
    """One corpus, tokenised three times."""
    top = tmp_path_factory.mktemp("formats")
    save_tiny_tokenizers(top / "tokenizers")
    write_manifests(top)
    for kind in FORMATS:
        tokenize(top, kind)
    return {kind: read_manifests(top / kind) for kind in FORMATS}


def tokenize(top: Path, kind: str, *, tokenizers: str = "tokenizers") -> None:
    tokenize_cuts(
        TokenizeConfig(
            manifest_dir=top / "manifests", tokenizer_dir=top / tokenizers, output_dir=top / kind, shard_seconds=2.0, format=kind
        )
    )
    finish_cuts(FinishConfig(output_dir=top / kind, manifest_dir=top / "manifests", report=top / "report.html"))


@pytest.mark.parametrize("kind", ["shar", "memmap"])
def test_every_cut_has_the_tokens_and_the_audio_that_it_has_in_hdf5(corpora: dict[str, TokenManifests], kind: str) -> None:
    for part in PARTS:
        pairs = list(zip(*(by_id(corpora[name].cuts(part)) for name in ("hdf5", kind)), strict=True))
        assert pairs
        for expected, cut in pairs:
            one, other = read_tokens(expected, corpora["hdf5"], 3), read_tokens(cut, corpora[kind], 3)
            assert one.cut_id == other.cut_id and one.num_periods == other.num_periods
            np.testing.assert_array_equal(one.units, other.units)
            np.testing.assert_array_equal(one.codes, other.codes)
            assert (cut.start, cut.duration, cut.recording) == (expected.start, expected.duration, expected.recording)


def by_id(cuts: Iterable[Cut]) -> list[Cut]:
    """Stage 4 shuffles the train cuts but for those of Shar, which lie beside their tokens."""
    return sorted(cuts, key=lambda cut: cut.id)


@pytest.mark.parametrize("kind", ["shar", "memmap"])
def test_one_dataset_makes_equal_batches_of_all_formats(corpora: dict[str, TokenManifests], kind: str) -> None:
    batches = {}
    for name in ("hdf5", kind):
        dataset = TokenDataset(corpora[name], CROPS, epoch=1)
        cuts = CutSet.from_cuts(by_id(corpora[name].cuts("train")))
        found = epoch_batches(cuts, dataset, SAMPLER, epoch=1, skip=1, rank=0, world_size=1, num_workers=0)
        batches[name] = list(found)
    assert len(batches[kind]) == len(batches["hdf5"]) > 1
    for one, other in zip(batches["hdf5"], batches[kind], strict=True):
        for stage, tensors in one.items():
            assert tensors.keys() == other[stage].keys()
            assert all(torch.equal(values, other[stage][name]) for name, values in tensors.items())


def test_shar_is_read_by_lhotse_alone_at_the_cuts_own_place(corpora: dict[str, TokenManifests]) -> None:
    cuts = CutSet.from_shar(in_dir=corpora["shar"].folder / "shards" / "train")
    for cut, expected in zip(cuts, by_id(corpora["hdf5"].cuts("train")), strict=True):
        np.testing.assert_array_equal(cut.load_units(), expected.load_units())
        np.testing.assert_array_equal(cut.load_codes(), expected.load_codes())


def test_flat_files_hold_all_cuts_one_after_the_other(corpora: dict[str, TokenManifests]) -> None:
    folder = corpora["memmap"].folder
    units, codes = open_flat(folder, "train", "units"), open_flat(folder, "train", "codes", num_codebooks=3)
    expected = list(corpora["hdf5"].cuts("train"))
    assert len(units) == len(codes) == len(expected) and units.flat.dtype == codes.flat.dtype == np.int16
    for index, cut in enumerate(expected):
        np.testing.assert_array_equal(units[index], cut.load_units())
        np.testing.assert_array_equal(codes[index], cut.load_codes())
    np.testing.assert_array_equal(units.flat, np.concatenate([cut.load_units() for cut in expected]))
    with pytest.raises(IndexError):
        units[len(expected)]


@pytest.mark.parametrize("kind", FORMATS)
def test_equal_corpora_have_equal_bytes(corpora: dict[str, TokenManifests], kind: str) -> None:
    folder = corpora[kind].folder
    first = content(folder)
    for path in (folder / "shards").rglob("*"):
        if path.is_file():
            path.unlink()
    tokenize(folder.parent, kind)
    assert content(folder) == first


@pytest.mark.parametrize("kind", FORMATS)
def test_codes_without_units_are_stored_alone(corpora: dict[str, TokenManifests], kind: str, tmp_path: Path) -> None:
    save_tiny_tokenizers(tmp_path / "codec only", units=False)
    write_manifests(tmp_path, {"train": [0.5, 0.01], "dev": [0.01], "test": [0.3]})  # of dev nothing is left
    tokenize(tmp_path, kind, tokenizers="codec only")
    manifests = read_manifests(tmp_path / kind)
    assert manifests.semantic is None and len(list(manifests.cuts("dev"))) == 0
    [tokens] = [read_tokens(cut, manifests, 3) for cut in manifests.cuts("train")]
    assert tokens.units.size == 0 and tokens.codes.shape == (25, 3)


def test_a_train_cut_among_dev_is_found_in_shar_too(corpora: dict[str, TokenManifests], tmp_path: Path) -> None:
    corpora["shar"].refuse_overlap()
    save_tiny_tokenizers(tmp_path / "tokenizers")
    write_manifests(tmp_path)
    (tmp_path / "manifests" / "cuts_dev.jsonl.gz").write_bytes((tmp_path / "manifests" / "cuts_train.jsonl.gz").read_bytes())
    tokenize(tmp_path, "shar")
    with pytest.raises(ManifestError, match="expected dev cuts that training never sees, found train-0"):
        read_manifests(tmp_path / "shar").refuse_overlap()


def test_the_same_cuts_are_chosen_for_validation(corpora: dict[str, TokenManifests]) -> None:
    chosen = {kind: [cut.id for cut in choose_cuts(corpora[kind].cuts("train"), SAMPLER, most=3)] for kind in FORMATS}
    assert len(set(map(tuple, chosen.values()))) == 1 and len(chosen["shar"]) == 3


def test_a_flat_file_cut_short_is_refused(corpora: dict[str, TokenManifests], tmp_path: Path) -> None:
    folder = corpora["memmap"].folder
    whole = (folder / "dev.units.int16").read_bytes()
    try:
        (folder / "dev.units.int16").write_bytes(whole[:-2])
        with pytest.raises(FlatTokensError, match=r"run bin/tokenizer\.py corpus again"):
            open_flat(folder, "dev", "units")
        with pytest.raises(ManifestError, match="ValueError"):
            [read_tokens(cut, corpora["memmap"], 3) for cut in corpora["memmap"].cuts("dev")]
    finally:
        (folder / "dev.units.int16").write_bytes(whole)
    with pytest.raises(FlatTokensError, match="found nothing there"):
        open_flat(tmp_path, "dev", "units")


@settings(max_examples=20, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=8), width=st.integers(1, 4), seed=st.integers(0, 99))
def test_flat_tokens_give_back_what_went_in(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(-(2**15), 2**15, (count, width)).astype(np.int16) for count in lengths]
    folder = tmp_path_factory.mktemp("flat")
    np.concatenate(rows).astype("<i2").tofile(folder / "x.codes.int16")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    np.save(folder / "x.index.npy", np.stack([starts, starts], 1))
    tokens = open_flat(folder, "x", "codes", num_codebooks=width)
    assert all(np.array_equal(tokens[index], row) for index, row in enumerate(rows)) and len(tokens) == len(rows)
