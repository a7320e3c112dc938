#!/usr/bin/env python3
"""Fit the filter by which a watermark is found: Fisher's linear discriminant between a louder cell and speech as it is.

  python -m benchmarks.watermark_filter --corpus RECORDINGS

Reads 6 s of each of ``--num-files`` recordings below the folder, as they are and with white noise 20 dB below them, and writes
``valle/assets/marks/evidence.npz``.  No mark and no key is involved: only how speech varies between neighbouring cells.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import recordings
from valle.audio import read_audio
from valle.evaluation.attacks import add_noise
from valle.files import replacing
from valle.marks import find

PLACES = range(-find.REACH, find.REACH + 1, 2)  # frames
NEIGHBOURS = 3  # bands on each side
RIDGE = 0.3  # square decibels
SECONDS, STRIDE = 6.0, 3  # of a recording; every third frame is enough

# What a cell that is louder by 1 dB does to the log energy of frames at these distances from its centre, and to the bands beside it.
IN_TIME = np.interp(PLACES, range(-4, 5), [0.02, 0.1, 0.4, 0.85, 0.95, 0.85, 0.4, 0.1, 0.02], left=0, right=0)
IN_BANDS = np.array([0, 0, 0.12, 0.76, 0.12, 0, 0])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of speech")
    parser.add_argument("--num-files", type=int, default=16)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    levels = list(_levels(recordings(options.corpus)[-options.num_files :]))
    with replacing(find.ASSET, ending=".npz") as temporary:
        np.savez(temporary, weights=fit(levels).astype(np.float32))
    print(f"written: {find.ASSET}")


def fit(levels: Sequence[find.Values]) -> find.Values:
    """``(13, 7)`` weights whose evidence has deviation 1 in speech, from log energies ``(F, BANDS)`` in dB."""
    covariance, count = np.zeros((91, 91)), 0
    for part in levels:
        patches = np.stack([
            part[find.REACH + place : len(part) - find.REACH + place, NEIGHBOURS + band : find.BANDS - NEIGHBOURS + band]
            for place in PLACES for band in range(-NEIGHBOURS, NEIGHBOURS + 1)
        ], -1)[::STRIDE].reshape(-1, 91)  # fmt: skip
        patches = patches - patches.mean(1, keepdims=True)
        covariance += patches.T @ patches
        count += len(patches)
    covariance /= count
    response = (IN_TIME[:, None] * IN_BANDS).reshape(-1)
    weights = np.linalg.solve(covariance + RIDGE * np.eye(91), response - response.mean())
    weights -= weights.mean()  # the level says nothing
    return (weights / np.sqrt(weights @ covariance @ weights)).reshape(len(PLACES), -1)


def _levels(paths: Sequence[Path]) -> Iterator[find.Values]:
    for path in paths:
        wav, _ = read_audio(path, sample_rate=find.RATE, duration=SECONDS)
        for sound in (wav, add_noise(wav, 20.0, seed=0)):
            yield find.decibels(np.concatenate(list(find.band_energies([sound]))))


if __name__ == "__main__":
    main()
