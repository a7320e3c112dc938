"""Short pieces of audio for codec training, drawn from lhotse manifests by weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor
from torch.utils.data import Dataset

from valle.audio import Waveform, read_audio, resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.data.workers import read_batches
from valle.seeds import draw
from valle.tokenizing.token_manifests import ManifestError

GAIN_DB = (-6.0, 4.0)  # range of the random gain that half of the pieces get


@dataclass(frozen=True)
class Source:
    """One corpus: its cuts, held as paths and lengths, and the share of pieces that come from it."""

    cuts: list[Cut]
    share: float

    @classmethod
    def read(cls, path: Path, share: float, *, min_seconds: float) -> Source:
        """Cuts of a manifest that are long enough; raises ``ManifestError`` where there are none."""
        if not path.is_file():
            raise ManifestError(f"expected a manifest of cuts at {path}, found nothing there; run stage 1 of a recipe's prepare.sh")
        cuts = [cut for cut in read_cuts(path) if cut.duration >= min_seconds]
        if not cuts:
            raise ManifestError(f"expected cuts of at least {min_seconds:g} s in {path}, found none; lower --segment-seconds")
        return cls(cuts=cuts, share=share)


class SegmentDataset(Dataset[Tensor]):
    """Batch number i of an epoch: ``(B, T)`` float32, a function of (seed, epoch, i) alone."""

    def __init__(
        self, sources: list[Source], *, sample_rate: int, num_samples: int, batch_size: int, num_batches: int, seed: int, epoch: int
    ) -> None:
        self.sources, self.sample_rate, self.num_samples = sources, sample_rate, num_samples
        self.batch_size, self.num_batches, self.seed, self.epoch = batch_size, num_batches, seed, epoch
        shares = np.array([source.share for source in sources])
        self.bounds = np.cumsum(shares / shares.sum())

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> Tensor:
        return torch.stack([self._piece(f"{index}/{row}") for row in range(self.batch_size)])

    def cut_ids(self, index: int) -> list[str]:
        """Whose pieces batch number ``index`` holds."""
        return [self._cut(f"{index}/{row}").id for row in range(self.batch_size)]

    def _cut(self, name: str) -> Cut:
        source = self.sources[min(int(np.searchsorted(self.bounds, self._chance(name, "source"))), len(self.sources) - 1)]
        return source.cuts[int(self._chance(name, "cut") * len(source.cuts))]

    def _chance(self, name: str, what: str) -> float:
        return draw(self.seed, self.epoch, name, what)

    def _piece(self, name: str) -> Tensor:
        def chance(what: str) -> float:
            return self._chance(name, what)

        cut = self._cut(name)
        seconds = self.num_samples / self.sample_rate
        wav = self._read(cut, chance("offset") * (cut.duration - seconds), seconds)
        wav = np.pad(wav, (0, max(0, self.num_samples - len(wav))))[: self.num_samples]
        gain = 10 ** ((GAIN_DB[0] + chance("gain") * (GAIN_DB[1] - GAIN_DB[0])) / 20) if chance("louder") < 0.5 else 1.0
        return torch.from_numpy(np.clip(wav * np.float32(gain), -1, 1))

    def _read(self, cut: Cut, offset: float, seconds: float) -> Waveform:
        """``seconds`` of a cut, give or take some samples, at the codec's rate."""
        if cut.recording.transforms:  # such as another speed, at which the file's own seconds are others
            wav, rate = read_cut(cut.truncate(offset=offset, duration=min(seconds, cut.duration - offset)))
            return resample(wav, rate, self.sample_rate)
        path = Path(cut.recording.sources[0].source)
        return read_audio(path, sample_rate=self.sample_rate, offset=cut.start + offset, duration=seconds + 0.01)[0]


class PairedDataset(Dataset[Tensor]):
    """Batches of two datasets side by side, ``(B, 2, T)``."""

    def __init__(self, first: SegmentDataset, second: SegmentDataset) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: int) -> Tensor:
        return torch.stack([self.first[index], self.second[index]], 1)


def segment_batches(dataset: SegmentDataset | PairedDataset, *, skip: int, num_workers: int) -> Iterator[Tensor]:
    """Batches ``skip``.. of the dataset's epoch, in order."""
    return read_batches(dataset, range(skip, len(dataset)), num_workers=num_workers)
