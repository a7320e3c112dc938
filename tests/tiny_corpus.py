"""A tokenized corpus of a few seconds, made in a moment: real tokenizers of random weights, tokens with a pattern to learn."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse import MonoCut, NumpyHdf5Writer, Recording
from lhotse.array import TemporalArray
from lhotse.audio import AudioSource

from valle.timeline import Timeline
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans
from valle.tokenizers.registry import save_tokenizer
from valle.tokenizing.token_manifests import tokenizers_tag

CODEBOOKS, CODES, UNITS = 3, 16, 12


@dataclass(frozen=True)
class Corpus:
    """Sizes of a corpus; 25 Hz units, 50 Hz codes."""

    num_train: int = 24
    num_dev: int = 6
    shortest: float = 1.0  # seconds
    longest: float = 4.0
    units: bool = True


def make_tokenizers(folder: Path, *, units: bool = True) -> tuple[ConvNeXtCodec, MfccKMeans | None]:
    """Tiny tokenizers in ``folder/acoustic`` and ``folder/semantic``."""
    torch.manual_seed(0)
    codec = ConvNeXtCodec(
        ConvNeXtCodecConfig(name="tiny-codec", dim=8, num_blocks=1, vq_dim=4, num_codebooks=CODEBOOKS, codebook_size=CODES)
    ).eval()
    save_tokenizer(codec, folder / "acoustic")
    if not units:
        return codec, None
    kmeans = MfccKMeans(MfccConfig(name="tiny-units", num_units=UNITS)).eval()
    kmeans.centroids.normal_()
    save_tokenizer(kmeans, folder / "semantic")
    return codec, kmeans


def write_corpus(folder: Path, corpus: Corpus | None = None) -> Path:
    """``folder/tokenized`` and ``folder/tokenizers``, as ``prepare.sh`` leaves them; returns the manifest folder."""
    corpus = corpus or Corpus()
    codec, kmeans = make_tokenizers(folder / "tokenizers", units=corpus.units)
    manifests = folder / "tokenized"
    manifests.mkdir(parents=True)
    timeline = Timeline(codes=codec.identity.grid, units=kmeans.identity.grid if kmeans else None)
    info = {
        "timeline": timeline.to_dict(),
        "tokenizers": {"acoustic": codec.identity.to_dict(), "semantic": kmeans.identity.to_dict() if kmeans else None},
        "statistics": {},
    }
    (manifests / "info.json").write_text(json.dumps(info))
    tag = tokenizers_tag(codec.identity, kmeans.identity if kmeans else None)
    for part, count in (("train", corpus.num_train), ("dev", corpus.num_dev), ("test", 2)):
        with NumpyHdf5Writer(manifests / f"{part}.h5") as writer, gzip.open(manifests / f"cuts_{part}.jsonl.gz", "wt") as stream:
            for number in range(count):
                stream.write(json.dumps(_cut(f"{part}-{number:03d}", corpus, writer, tag).to_dict()) + "\n")
    return manifests


def _cut(name: str, corpus: Corpus, writer: NumpyHdf5Writer, tag: str) -> MonoCut:
    rng = random.Random(name)
    periods = round(rng.uniform(corpus.shortest, corpus.longest) * 25)
    codes, units = pattern(periods, seed=rng.randrange(UNITS))
    duration = periods / 25
    recording = Recording(
        id=name, sources=[AudioSource(type="file", channels=[0], source=f"{name}.wav")], sampling_rate=16000,
        num_samples=periods * 640, duration=duration,
    )  # fmt: skip
    custom: dict[str, TemporalArray | str] = {"tokenizers": tag, "codes": _store(writer, f"{name}-codes", codes, 0.02)}
    if corpus.units:
        custom["units"] = _store(writer, f"{name}-units", units, 0.04)
    return MonoCut(id=name, start=0, duration=duration, channel=0, recording=recording, custom=custom)


def _store(writer: NumpyHdf5Writer, key: str, values: np.ndarray, shift: float) -> TemporalArray:
    stored = writer.store_array(key=key, value=values.astype(np.int16), frame_shift=shift, temporal_dim=0, start=0)
    assert isinstance(stored, TemporalArray)
    return stored


def pattern(periods: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Units that count up, and codes that follow from the unit of their frame: ``(2 periods, Q)``, ``(periods,)``."""
    units = (np.arange(periods) + seed) % UNITS
    frames = np.arange(2 * periods)
    base = units[frames // 2] + frames % 2
    return np.stack([(base + 3 * level) % CODES for level in range(CODEBOOKS)], 1), units
