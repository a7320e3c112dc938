"""Units whose encoder and k-means were both released: HuBERT base by GSLM and its successors (Lakhotia et al. 2021; Lee et al. 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from valle.tokenizers.centroid_file import read_centroids
from valle.tokenizers.kmeans_fit import KMeansFit
from valle.tokenizers.pretrained import PretrainedError, released_folder
from valle.tokenizers.pretrained_units import PretrainedUnits, load_encoder


class ReleasedClusters(NamedTuple):
    """Whose states were clustered, of which layer, into how many units; where the file of centroids is."""

    encoder: str
    layer: int
    num_units: int
    url: str


_GSLM = "https://dl.fbaipublicfiles.com/textless_nlp/gslm/hubert"
CLUSTERED = {
    "hubert-base-km50": ReleasedClusters("hubert-base", 6, 50, f"{_GSLM}/km50/km.bin"),
    "hubert-base-km100": ReleasedClusters("hubert-base", 6, 100, f"{_GSLM}/km100/km.bin"),
    "hubert-base-km200": ReleasedClusters("hubert-base", 6, 200, f"{_GSLM}/km200/km.bin"),
    "hubert-base-km500": ReleasedClusters(
        "hubert-base", 9, 500, "https://dl.fbaipublicfiles.com/hubert/hubert_base_ls960_L9_km500.bin"
    ),
}  # fmt: skip
FILES = ("km.npy", "km.safetensors", "km.bin")  # one of them, the first that is there


def load_clustered(name: str, path: Path | None) -> PretrainedUnits:
    """The units ``name`` out of the folder ``path``, which holds the encoder as released and its centroids, as released or as an array.

    The centroids are of states as they are, and of waveforms that are not normalised, as fairseq's HuBERT base hears them.
    """
    released = CLUSTERED[name]
    advice = f"put the files of {released.encoder}, and {released.url} as km.bin, into a folder and name it: {name}=FOLDER"
    if path is None:
        raise PretrainedError(f"expected the folder of {name}, found its name alone, of which no hub has both parts; {advice}")
    folder = released_folder(released.encoder, path)
    file = next((folder / file for file in FILES if (folder / file).is_file()), None)
    if file is None:
        raise PretrainedError(f"expected centroids of {name} in {folder}, found none of {', '.join(FILES)} there; {advice}")
    centroids = read_centroids(file)
    tokenizer = load_encoder(released.encoder, path, layer=released.layer, num_units=released.num_units, label=name, normalise=False)
    if centroids.shape != tuple(tokenizer.centroids.shape):
        raise PretrainedError(
            f"expected {' x '.join(map(str, tokenizer.centroids.shape))} centroids of {name} in {file}, found "
            f"{' x '.join(map(str, centroids.shape))}; is it another model?"
        )
    dim = centroids.shape[1]
    tokenizer.take_clusters(KMeansFit(np.zeros(dim, np.float32), np.ones(dim, np.float32), centroids))
    return tokenizer
