"""Released clusters by name, and centroids out of files: no pickle is run, whatever it asks for."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.cluster import MiniBatchKMeans
from tiny_pretrained import Payload, tiny_released_encoder, write_released

from valle.tokenizers.centroid_file import CentroidFileError, read_centroids
from valle.tokenizers.pretrained import PretrainedError
from valle.tokenizers.registry import load_semantic, load_unfitted, save_tokenizer


def fitted(size: int = 8, dim: int = 16, dtype: type = np.float32) -> MiniBatchKMeans:
    points = np.random.default_rng(0).standard_normal((20 * size, dim)).astype(dtype)
    return MiniBatchKMeans(size, n_init=1, max_iter=2, random_state=0).fit(points)


WRITERS: dict[str, Callable[[MiniBatchKMeans, Path], object]] = {
    "km.bin": joblib.dump,
    "km.npy": lambda model, path: np.save(path, model.cluster_centers_),
    "km.safetensors": lambda model, path: save_file({"centroids": model.cluster_centers_}, path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centroids_are_the_models(name: str, dtype: type, tmp_path: Path) -> None:
    model = fitted(dtype=dtype)
    WRITERS[name](model, tmp_path / name)
    found = read_centroids(tmp_path / name)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, model.cluster_centers_.astype(np.float32))


def test_no_pickle_is_run(tmp_path: Path) -> None:
    path = tmp_path / "km.bin"
    for content in (Payload(tmp_path / "run"), {"cluster_centers_": np.zeros((2, 3))}, [Payload(tmp_path / "run"), fitted()]):
        for write in (lambda what: joblib.dump(what, path), lambda what: path.write_bytes(pickle.dumps(what))):
            write(content)
            with pytest.raises(CentroidFileError, match=r"^expected "):
                read_centroids(path)
    assert not (tmp_path / "run").exists()
    joblib.dump(np.array([[Payload(tmp_path / "run")]], dtype=object), path)
    with pytest.raises(CentroidFileError):
        read_centroids(path)
    assert not (tmp_path / "run").exists()


def test_what_is_no_matrix_is_refused_in_a_sentence(tmp_path: Path) -> None:
    model = fitted()
    joblib.dump(model, tmp_path / "whole.bin")
    whole = (tmp_path / "whole.bin").read_bytes()
    for number, content in enumerate((b"", b"words", whole[:300], whole[: len(whole) // 2])):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(content)
        with pytest.raises(CentroidFileError, match=r"^expected .*\.npy$"):
            read_centroids(path)
    joblib.dump(model, tmp_path / "small.bin", compress=3)
    np.save(tmp_path / "row.npy", np.zeros(3))
    for name in ("small.bin", "row.npy", "nothing.npy"):
        with pytest.raises(CentroidFileError, match=r"^expected "):
            read_centroids(tmp_path / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_released("hubert-base", tiny_released_encoder("hubert-base", num_layers=7), tmp_path_factory.mktemp("released") / "hubert")
    joblib.dump(fitted(size=50), path / "km.bin")
    return path


def test_units_are_the_nearest_centroids_to_states_as_they_are(folder: Path, tmp_path: Path) -> None:
    units = load_semantic(f"hubert-base-km50={folder}")
    wav = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)) / 4
    lengths = torch.tensor([16000])
    states = units.hidden(wav, lengths)[0]  # type: ignore[operator]
    wanted = torch.cdist(states, torch.from_numpy(fitted(size=50).cluster_centers_)).argmin(1)
    assert units.name == "hubert-base-km50" and units.num_units == 50 and torch.equal(units.encode(wav, lengths)[0][0], wanted)
    assert units.config()["layer"] == 6 and units.config()["normalise"] is False
    assert load_unfitted(f"hubert-base={folder}", layer=6, num_units=50).config()["normalise"] is True
    save_tokenizer(units, tmp_path)
    assert load_semantic(f"hubert-base-km50={tmp_path}").identity == units.identity


def test_what_is_lacking_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match=r"km100/km.bin as km.bin, into a folder and name it: hubert-base-km100=FOLDER"):
        load_semantic("hubert-base-km100")
    with pytest.raises(PretrainedError, match=r"expected 100 x 16 centroids of hubert-base-km100 .* found 50 x 16; is it another model"):
        load_semantic(f"hubert-base-km100={folder}")
    bare = write_released("hubert-base", tiny_released_encoder("hubert-base", num_layers=7), tmp_path)
    with pytest.raises(PretrainedError, match=r"found none of km.npy, km.safetensors, km.bin there"):
        load_semantic(f"hubert-base-km50={bare}")
