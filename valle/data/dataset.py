"""Cuts with tokens -> the batch of every stage.  One cut is read per example; each stage takes its own crop of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet
from lhotse.array import TemporalArray
from lhotse.cut import Cut
from lhotse.features.io import close_cached_file_handles, lookup_cache_or_open
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from valle.data.crops import Crop, choose_crop
from valle.seeds import draw
from valle.tokenizers.base import TokenizerIdentity
from valle.tokenizing.flat_tokens import STORAGE as FLAT_STORAGE
from valle.tokenizing.flat_tokens import read_flat
from valle.tokenizing.token_manifests import ManifestError, TokenManifests

Batch = dict[str, dict[str, Tensor]]

MAX_OPEN_FILES = 200  # shards that lhotse keeps open; systems allow a process 1024, and a large corpus has more shards


@dataclass(frozen=True)
class CropSettings:
    """What is cropped for whom."""

    stages: tuple[str, ...]
    seconds: Mapping[str, float]
    num_quantizers: int
    num_coarse: int
    prefix_mode: int
    prompt_share: float  # of a crop without units
    prompt_share_to: float  # above prompt_share: the share is drawn between the two
    seed: int


@dataclass(frozen=True)
class Tokens:
    """One cut's streams, whole periods of the timeline."""

    cut_id: str
    units: NDArray[np.int64]  # (T_u,), empty without units
    codes: NDArray[np.int64]  # (T, Q)
    num_periods: int


class TokenDataset(Dataset[Batch]):
    """``dataset[cuts]`` is the batch of a mini ``CutSet``, as lhotse's samplers give them."""

    def __init__(self, manifests: TokenManifests, settings: CropSettings, *, epoch: int) -> None:
        self.manifests, self.settings, self.epoch = manifests, settings, epoch

    def __getitem__(self, cuts: CutSet) -> Batch:
        return self.collate([read_tokens(cut, self.manifests, self.settings.num_quantizers) for cut in cuts])

    @property
    def longest_seconds(self) -> float:
        """The longest crop that any trained stage takes: what a cut costs in a batch."""
        return max(self.settings.seconds[stage] for stage in self.settings.stages)

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """Every trained stage's tensors, as ``AudioLM.loss`` takes them."""
        makers = {"semantic": self._semantic, "coarse": self._coarse, "fine": self._fine}
        return {stage: makers[stage](examples) for stage in self.settings.stages}

    def _crops(self, examples: Sequence[Tokens], stage: str) -> list[Crop]:
        settings = self.settings
        return [
            choose_crop(
                self.manifests.timeline,
                num_periods=example.num_periods,
                seconds=settings.seconds[stage],
                chance=draw(settings.seed, self.epoch, example.cut_id, stage),
            )
            for example in examples
        ]

    def _semantic(self, examples: Sequence[Tokens]) -> dict[str, Tensor]:
        crops = self._crops(examples, "semantic")
        units, lengths = pad([example.units[crop.units] for example, crop in zip(examples, crops, strict=True)])
        return {
            "units": units,
            "lengths": lengths,
            "starts": torch.tensor([crop.holds_start for crop in crops]),
            "ends": torch.tensor([crop.holds_end for crop in crops]),
        }

    def _coarse(self, examples: Sequence[Tokens]) -> dict[str, Tensor]:
        crops = self._crops(examples, "coarse")
        batch = self._streams(examples, crops)
        if self.manifests.semantic is None:
            prompts = [self._prompt_share(example) * length for example, length in zip(examples, batch["lengths"].tolist(), strict=True)]
            batch["prompt_lengths"] = torch.minimum(torch.tensor(prompts).long().clamp(min=1), batch["lengths"] - 1).clamp(min=0)
        return batch

    def _prompt_share(self, example: Tokens) -> float:
        """Of a crop without units; by the example itself, never by its batch mates."""
        settings = self.settings
        if settings.prompt_share_to <= settings.prompt_share:
            return settings.prompt_share
        chance = draw(settings.seed, self.epoch, example.cut_id, "share")
        return settings.prompt_share + chance * (settings.prompt_share_to - settings.prompt_share)

    def _fine(self, examples: Sequence[Tokens]) -> dict[str, Tensor]:
        settings = self.settings
        crops = self._crops(examples, "fine")
        batch = self._streams(examples, crops)
        levels, prompts = [], []
        for example, length in zip(examples, batch["lengths"].tolist(), strict=True):
            level = draw(settings.seed, self.epoch, example.cut_id, "level")
            levels.append(settings.num_coarse + int(level * (settings.num_quantizers - settings.num_coarse)))
            prompt = draw(settings.seed, self.epoch, example.cut_id, "prompt")
            prompts.append(int(prompt * 2 / 3 * length) if settings.prefix_mode == 1 else 0)
        return {**batch, "levels": torch.tensor(levels), "prompt_lengths": torch.tensor(prompts)}

    def _streams(self, examples: Sequence[Tokens], crops: Sequence[Crop]) -> dict[str, Tensor]:
        codes, lengths = pad([example.codes[crop.frames] for example, crop in zip(examples, crops, strict=True)])
        batch = {"codes": codes, "lengths": lengths}
        if self.manifests.semantic is not None:
            units, unit_lengths = pad([example.units[crop.units] for example, crop in zip(examples, crops, strict=True)])
            batch.update(units=units, unit_lengths=unit_lengths)
        return batch


def read_tokens(cut: Cut, manifests: TokenManifests, num_quantizers: int) -> Tokens:
    """A cut's units and first ``num_quantizers`` codes; refused if other tokenizers made them."""
    tag = (cut.custom or {}).get("tokenizers")
    if tag != manifests.tag:
        raise ManifestError(
            f"cut {cut.id} was tokenized by {tag!r} and info.json names {manifests.tag!r} ({manifests.acoustic}, {manifests.semantic}); "
            f"delete {manifests.folder} and run ./prepare.sh, so that all tokens come from one pair of tokenizers"
        )
    codes = _load(cut, "codes", manifests.acoustic)
    units = _load(cut, "units", manifests.semantic) if manifests.semantic else np.zeros(0, np.int64)
    if codes.ndim != 2 or codes.shape[1] < num_quantizers:
        raise ManifestError(
            f"expected at least {num_quantizers} codebooks in cut {cut.id}, found shape {codes.shape}; lower --num-quantizers"
        )
    periods = manifests.timeline.periods_in(len(units), len(codes))
    if periods == 0:
        raise ManifestError(f"cut {cut.id} holds no whole period of tokens; raise --filter-min-duration")
    return Tokens(cut_id=cut.id, units=units, codes=codes[:, :num_quantizers], num_periods=periods)


def _load(cut: Cut, field: str, identity: TokenizerIdentity) -> NDArray[np.int64]:
    """A stored stream, whole: ``cut.truncate()`` would round each stream its own way, so crops are taken by index."""
    stored = (cut.custom or {}).get(field)
    if stored is None:
        raise ManifestError(
            f"expected {field} in cut {cut.id}, found none; run ./prepare.sh, or point --manifest-dir at its data/tokenized"
        )
    read = _READERS.get(stored.array.storage_type)
    if read is None:  # lhotse knows others, some of which run commands, unpickle or go to an address
        raise ManifestError(
            f"expected {field} of cut {cut.id} in HDF5, found {stored.array.storage_type!r}; delete data/tokenized and run ./prepare.sh"
        )
    if lookup_cache_or_open.cache_info().currsize >= MAX_OPEN_FILES:
        close_cached_file_handles()
    try:
        values = np.asarray(read(stored), dtype=np.int64)
    except (OSError, KeyError, ValueError) as error:
        path = Path(stored.array.storage_path)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}" if path.is_file() else "there is no such file"
        raise ManifestError(
            f"the {field} of cut {cut.id} in {path} cannot be read ({reason}); "
            "run from the recipe's folder (egs/<corpus>), or delete data/tokenized and run ./prepare.sh"
        ) from error
    if values.size and not 0 <= values.min() <= values.max() < identity.codebook_size:
        raise ManifestError(
            f"expected {field} in 0..{identity.codebook_size - 1} as {identity} makes them, "
            f"found {values.min()}..{values.max()} in cut {cut.id}; "
            "delete data/tokenized and run ./prepare.sh"
        )
    return values


def _read_by_lhotse(stored: TemporalArray) -> NDArray[np.int16]:
    return np.asarray(stored.load())


def _read_flat(stored: TemporalArray) -> NDArray[np.int16]:
    return read_flat(stored.array)


# HDF5; Shar, whose arrays came with the cut; one flat file.
_READERS = {"numpy_hdf5": _read_by_lhotse, "memory_npy": _read_by_lhotse, FLAT_STORAGE: _read_flat}


def pad(rows: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Rows ``(T_b, ...)`` -> ``(B, T, ...)`` int64 with zeros behind, and lengths ``(B,)``."""
    lengths = [len(row) for row in rows]
    padded = np.zeros((len(rows), max(lengths), *rows[0].shape[1:]), np.int64)
    for out, row in zip(padded, rows, strict=True):
        out[: len(row)] = row
    return torch.from_numpy(padded), torch.tensor(lengths)


def padding_share(batch: Batch) -> float:
    """Share of a batch's tokens that are padding, over all stages."""
    padded = real = 0
    for tensors in batch.values():
        stream = tensors["codes"] if "codes" in tensors else tensors["units"]
        padded += stream.shape[0] * stream.shape[1]
        real += int(tensors["lengths"].sum())
    return 1 - real / max(padded, 1)
