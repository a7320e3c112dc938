"""The file that holds a corpus's unit BPE."""

import json
from pathlib import Path

import pytest
from tiny_corpus import UNITS, Corpus, write_corpus

from valle.data.fit_unit_bpe import FittedUnitBpe, UnitBpeOptions, fit, train_units
from valle.errors import UserError
from valle.tokenizers.unit_bpe import UnitBpeError
from valle.tokenizing.token_manifests import ManifestError, read_manifests


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), Corpus(num_train=10, num_dev=2))


@pytest.fixture(scope="module")
def file(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bpe") / "unit_bpe.json"
    fit(UnitBpeOptions(manifest_dir=manifests, output=path, vocab_size=20))
    return path


def test_a_fitted_bpe_knows_its_units_and_how_long_its_tokens_are(manifests: Path, file: Path) -> None:
    fitted, info = FittedUnitBpe.load(file), read_manifests(manifests)
    assert info.semantic is not None and fitted.semantic_sha256 == info.semantic.sha256
    assert fitted.bpe.num_tokens == 20 and fitted.bpe.num_units == UNITS
    streams = list(train_units(info))
    tokens = [fitted.bpe.encode(units) for units in streams]
    assert [fitted.bpe.decode(row) for row in tokens] == streams
    assert fitted.frames_per_token == pytest.approx(sum(map(len, streams)) / sum(map(len, tokens)), abs=1e-4)
    assert fitted.frames_per_token > 1.5


def test_the_same_corpus_gives_the_same_file(manifests: Path, file: Path, tmp_path: Path) -> None:
    fit(UnitBpeOptions(manifest_dir=manifests, output=tmp_path / "again.json", vocab_size=20))
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".valle-outputs.json", "again.json"]


def test_a_share_of_the_cuts_is_chosen_by_their_ids(manifests: Path) -> None:
    info = read_manifests(manifests)
    everything, half = list(train_units(info)), list(train_units(info, share=0.5))
    assert 0 < len(half) < len(everything) and half == list(train_units(info, share=0.5))


def test_files_that_are_no_unit_bpe_are_refused(file: Path, tmp_path: Path) -> None:
    good = json.loads(file.read_text())
    for name, content, words in (
        ("no", None, "found nothing there"),
        ("text", "hello", "cannot be read"),
        ("list", "[1]", "cannot be read"),
        ("other", json.dumps({"model": 3}), "cannot be read"),
        ("cut", json.dumps({**good, "model": good["model"][:100]}), "damaged"),
        ("changed", json.dumps({**good, "sha256": "0" * 64}), "has changed"),
        ("units", json.dumps({**good, "num_units": 11}), "of 11 units, found one of 12"),
    ):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(UnitBpeError, match=words):
            FittedUnitBpe.load(tmp_path / name)


def test_what_has_no_units_is_refused(manifests: Path, tmp_path: Path) -> None:
    codes = write_corpus(tmp_path / "codes", Corpus(num_train=3, num_dev=1, units=False))
    with pytest.raises(ManifestError, match="codes only"):
        fit(UnitBpeOptions(manifest_dir=codes, output=tmp_path / "bpe.json"))
    with pytest.raises(UserError, match="--fit-hours must be above 0"):
        UnitBpeOptions(fit_hours=0.0)
    with pytest.raises(UnitBpeError, match="more tokens than the 12 units"):
        fit(UnitBpeOptions(manifest_dir=manifests, output=tmp_path / "bpe.json", vocab_size=12))
    assert not (tmp_path / "bpe.json").exists()
