"""Crops of audio for speech encoders: cuts drawn by length, on the grid of frames, with spans to mask and stored targets.

Everything drawn is a hash of (seed, epoch, batch, row), so a batch is a function of its number alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from lhotse.utils import fastcopy
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.data.workers import read_batches
from valle.seeds import draw
from valle.timeline import ceil_division
from valle.tokenizing.token_manifests import ManifestError

Targets = NDArray[np.int16]  # (frames of all cuts, target sets)


@dataclass(frozen=True)
class SpeechCorpus:
    """The cuts of manifests, in order, and where each one's frames begin when all are laid end to end."""

    cuts: list[Cut]
    frame: Fraction  # seconds from one frame to the next

    @classmethod
    def read(cls, paths: Sequence[Path], *, frame: Fraction, min_seconds: float) -> SpeechCorpus:
        """Cuts of at least ``min_seconds``; raises ``ManifestError`` where there are none."""
        cuts: list[Cut] = []
        for path in paths:
            if not path.is_file():
                raise ManifestError(f"expected a manifest of cuts at {path}, found nothing there; run stage 1 of a recipe's prepare.sh")
            found = [fastcopy(cut, supervisions=[]) for cut in read_cuts(path) if cut.duration >= min_seconds]
            if not found:
                raise ManifestError(f"expected cuts of at least {min_seconds:g} s in {path}, found none; lower --filter-min-duration")
            cuts += found
        return cls(cuts=cuts, frame=frame)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First frame of each cut, and after the last cut the number of all frames; a cut's last frame may be partly silence."""
        counts = [ceil(Fraction(cut.duration).limit_denominator(10**6) / self.frame) for cut in self.cuts]
        return np.concatenate([[0], np.cumsum(np.array(counts, np.int64))])

    def audio(self, index: int, *, first: int, count: int, sample_rate: int) -> Waveform:
        """Up to ``count`` frames of a cut from frame ``first``, at ``sample_rate``."""
        cut = self.cuts[index]
        offset = float(first * self.frame)
        seconds = min(float(count * self.frame), cut.duration - offset)
        if first or seconds < cut.duration:
            cut = cut.truncate(offset=offset, duration=seconds)
        wav, rate = read_cut(cut)
        return resample(wav, rate, sample_rate)

    def waveforms(self, *, sample_rate: int, most_seconds: float | None = None) -> Iterator[Waveform]:
        """Whole cuts by their length, about ``most_seconds`` of them, drawn by a hash of their ids; all if none is given.

        Not every n-th cut: speakers that take turns would be left out.
        """
        share = 1.0 if most_seconds is None else most_seconds / float(self.starts[-1] * self.frame)
        drawn = (index for index, cut in enumerate(self.cuts) if draw(0, 0, cut.id, "sample") < share)
        for index in self.by_length(drawn):
            yield self.audio(index, first=0, count=self.num_frames(index), sample_rate=sample_rate)

    def by_length(self, cuts: Iterable[int]) -> list[int]:
        """Indices of cuts, the shortest first: batches of neighbours are hardly padded."""
        return sorted(cuts, key=self.num_frames)

    def num_frames(self, index: int) -> int:
        return int(self.starts[index + 1] - self.starts[index])


@dataclass(frozen=True, kw_only=True)
class CropShape:
    """Sizes of a batch; a ``mask_share`` of frames begins a span of ``mask_span`` masked ones, and spans may overlap."""

    sample_rate: int
    hop_length: int
    frames: int
    batch_size: int
    mask_share: float
    mask_span: int


class SpeechCrops(Dataset[dict[str, Tensor]]):
    """Batch number i of an epoch: ``wav lengths mask seed`` and, with targets, ``targets`` (see ``valle.models.speech_objectives``)."""

    def __init__(self, corpus: SpeechCorpus, shape: CropShape, *, targets: Targets | None, num_batches: int, seed: int, epoch: int) -> None:
        self.corpus, self.shape, self.targets = corpus, shape, targets
        self.num_batches, self.seed, self.epoch = num_batches, seed, epoch

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        shape = self.shape
        rows = [self._row(f"{index}/{row}") for row in range(shape.batch_size)]
        longest = max(len(wav) for wav, _, _ in rows)
        frames = ceil_division(longest, shape.hop_length)
        batch = {
            "wav": torch.zeros(len(rows), longest),
            "lengths": torch.tensor([len(wav) for wav, _, _ in rows]),
            "mask": torch.zeros(len(rows), frames, dtype=torch.bool),
            "seed": torch.tensor(int(draw(self.seed, self.epoch, str(index), "seed") * 2**31)),
        }
        if self.targets is not None:
            batch["targets"] = torch.zeros(len(rows), frames, self.targets.shape[1], dtype=torch.int64)
        for row, (wav, mask, start) in enumerate(rows):
            batch["wav"][row, : len(wav)] = torch.from_numpy(wav)
            batch["mask"][row, : len(mask)] = torch.from_numpy(mask)
            if self.targets is not None:
                batch["targets"][row, : len(mask)] = torch.from_numpy(self.targets[start : start + len(mask)].astype(np.int64))
        return batch

    def cut_ids(self, index: int) -> list[str]:
        """Whose crops batch number ``index`` holds."""
        return [self.corpus.cuts[self._cut(f"{index}/{row}")].id for row in range(self.shape.batch_size)]

    def _cut(self, name: str) -> int:
        starts = self.corpus.starts
        return int(np.searchsorted(starts, draw(self.seed, self.epoch, name, "cut") * starts[-1], side="right")) - 1

    def _row(self, name: str) -> tuple[Waveform, NDArray[np.bool_], int]:
        """A crop, its mask, and the place of its first frame among all of the corpus."""

        def chance(what: str) -> float:
            return draw(self.seed, self.epoch, name, what)

        shape, starts = self.shape, self.corpus.starts
        cut = self._cut(name)
        total = int(starts[cut + 1] - starts[cut])
        first = int(chance("offset") * (max(0, total - shape.frames) + 1))
        count = min(shape.frames, total - first)
        wav = self.corpus.audio(cut, first=first, count=count, sample_rate=shape.sample_rate)[: count * shape.hop_length]
        frames = ceil_division(len(wav), shape.hop_length)
        mask = span_mask(frames, share=shape.mask_share, span=shape.mask_span, seed=int(chance("mask") * 2**48))
        return wav, mask, int(starts[cut]) + first


def span_mask(frames: int, *, share: float, span: int, seed: int) -> NDArray[np.bool_]:
    """``(frames,)``: spans of ``span`` that begin at a ``share`` of places, at least one; of two frames or more never all are masked."""
    span = max(1, min(span, frames // 2))
    places = frames - span + 1
    rng = np.random.default_rng(seed)
    begin = rng.choice(places, size=min(places, max(1, round(share * frames))), replace=False)
    mask = np.zeros(frames, bool)
    for offset in range(span):
        mask[begin + offset] = True
    if mask.all() and frames > 1:
        mask[rng.integers(frames)] = False
    return mask


def crop_batches(dataset: SpeechCrops, *, skip: int, num_workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches ``skip``.. of the dataset's epoch, in order."""
    return read_batches(dataset, range(skip, len(dataset)), num_workers=num_workers)
