"""The order of train cuts, and an index of many: lines by their place, of every format, refused where it belongs to other cuts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from test_formats import by_id
from test_tokenize_cuts import save_tiny_tokenizers, write_manifests

from valle.corpora.manifests import write_lines
from valle.data.dataset import read_tokens
from valle.tokenizing.cut_index import CutIndex, CutIndexError, find_index, mark_of, write_index
from valle.tokenizing.finish_cuts import FinishConfig, finish_cuts
from valle.tokenizing.shuffle import shuffled
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests
from valle.tokenizing.tokenize_cuts import TokenizeConfig, tokenize_cuts

FORMATS = ("hdf5", "shar", "memmap")


def finish(top: Path, kind: str, *, index_from: int = 1) -> TokenManifests:
    finish_cuts(
        FinishConfig(output_dir=top / kind, manifest_dir=top / "manifests", report=top / "report.html", index_from=index_from)
    )
    return read_manifests(top / kind)


def prepare(top: Path, kind: str) -> TokenManifests:
    save_tiny_tokenizers(top / "tokenizers")
    write_manifests(top)
    tokenize_cuts(
        TokenizeConfig(
            manifest_dir=top / "manifests", tokenizer_dir=top / "tokenizers", output_dir=top / kind, shard_seconds=2.0, format=kind
        )
    )
    return finish(top, kind)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenManifests]:
    top = tmp_path_factory.mktemp("indexed")
    return {kind: prepare(top, kind) for kind in FORMATS}


def lines(count: int) -> list[tuple[str, int]]:
    return [(json.dumps({"id": f"cut-{number:05d}", "duration": 1 + number % 7}), number // 10) for number in range(count)]


def test_stage_4_shuffles_the_train_cuts_and_leaves_dev_in_order(corpora: dict[str, TokenManifests]) -> None:
    """In order of the corpus, a sampler's buffer holds a few speakers at a time."""
    for kind in ("hdf5", "memmap"):
        train = [cut.id for cut in corpora[kind].cuts("train")]
        assert train != sorted(train) and train == sorted(train, key=mark_of)
        assert [cut.id for cut in corpora[kind].cuts("dev")] == ["dev-0", "dev-1"]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(count=st.integers(0, 300))
def test_the_order_is_the_same_in_memory_and_through_files(tmp_path_factory: pytest.TempPathFactory, count: int) -> None:
    folder, some = tmp_path_factory.mktemp("shuffle"), lines(count)
    in_memory = list(shuffled(some, num_lines=count, folder=folder))
    through_files = list(shuffled((line for line in reversed(some)), num_lines=count, folder=folder, in_memory=10))
    assert in_memory == through_files and sorted(in_memory) == sorted(some)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_an_index_gives_every_cut_with_its_tokens_by_number(corpora: dict[str, TokenManifests], kind: str) -> None:
    """Also of Shar, whose cuts then point into the archives."""
    manifests = corpora[kind]
    index = manifests.index("train")
    assert index is not None and len(index) == 6 and manifests.index("dev") is None
    expected = by_id(corpora["hdf5"].cuts("train"))
    numbers = sorted(range(6), key=lambda number: index.cuts([number])[0].id)
    for cut, twin, number in zip(index.cuts(numbers), expected, numbers, strict=True):
        one, other = read_tokens(cut, manifests, 3), read_tokens(twin, corpora["hdf5"], 3)
        assert (cut.id, cut.start, cut.duration, cut.recording) == (twin.id, twin.start, twin.duration, twin.recording)
        assert index.seconds[number] == cut.duration and int(index.marks[number]) == mark_of(cut.id)
        np.testing.assert_array_equal(one.units, other.units)
        np.testing.assert_array_equal(one.codes, other.codes)
    assert set(index.shards.tolist()) == ({-1} if kind == "memmap" else {0, 1, 2})


def test_an_index_travels_to_a_worker_without_its_table(corpora: dict[str, TokenManifests]) -> None:
    index = corpora["hdf5"].index("train")
    assert index is not None and len(index.marks) == 6
    packed = pickle.dumps(index)
    assert len(packed) < 500
    assert [cut.id for cut in pickle.loads(packed).cuts([3, 1])] == [cut.id for cut in index.cuts([3, 1])]


@pytest.mark.parametrize("damage", ["another manifest", "lines cut short", "a table cut short", "no lines", "no table at all"])
def test_an_index_of_other_cuts_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    some = lines(20)
    write_lines((line for line, _ in some), tmp_path / "cuts_train.jsonl.gz")
    index = write_index(some, tmp_path, "train")
    assert find_index(tmp_path, "train") == index
    if damage == "another manifest":
        write_lines((line for line, _ in some[1:]), tmp_path / "cuts_train.jsonl.gz")
    elif damage == "lines cut short":
        index.lines_path.write_bytes(index.lines_path.read_bytes()[:-5])
    elif damage == "a table cut short":
        index.table_path.write_bytes(index.table_path.read_bytes()[:-5])
    elif damage == "no lines":
        index.lines_path.unlink()
    else:
        index.table_path.write_bytes(b"words")
    with pytest.raises(CutIndexError, match=r"to belong to the cuts beside them, found that they do not; delete both, or run"):
        find_index(tmp_path, "train")


def test_a_small_corpus_has_no_index_and_loses_an_old_one(tmp_path: Path) -> None:
    manifests = prepare(tmp_path, "hdf5")
    assert manifests.index("train") is not None
    assert finish(tmp_path, "hdf5", index_from=100).index("train") is None
    assert not CutIndex(tmp_path / "hdf5", "train").lines_path.exists()


def test_a_train_cut_among_dev_is_found_by_its_mark(tmp_path: Path) -> None:
    manifests = prepare(tmp_path, "hdf5")
    manifests.refuse_overlap()
    cuts = list(CutSet.from_jsonl_lazy(tmp_path / "hdf5" / "cuts_train.jsonl.gz"))[2:3]
    write_lines((json.dumps(cut.to_dict()) for cut in cuts), tmp_path / "hdf5" / "cuts_dev.jsonl.gz")
    with pytest.raises(ManifestError, match=f"expected dev cuts that training never sees, found {cuts[0].id} in .*cuts_dev"):
        manifests.refuse_overlap()
