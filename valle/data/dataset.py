"""Cuts with tokens -> the batch of every stage.  One cut is read per example; each stage takes its own crop of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.array import TemporalArray
from lhotse.cut import Cut
from lhotse.features.io import close_cached_file_handles, lookup_cache_or_open
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from valle.corpora.pieces import FIRST_PIECE, LAST_PIECE
from valle.crops import CroppedTokens, Span, choose_crop, numbered
from valle.data.neighbours import Neighbours
from valle.seeds import draw
from valle.tokenizers.base import TokenizerIdentity
from valle.tokenizing.flat_tokens import STORAGE as FLAT_STORAGE
from valle.tokenizing.flat_tokens import read_flat
from valle.tokenizing.token_manifests import ManifestError, TokenManifests


class Batch(dict[str, dict[str, Tensor]]):
    """The tensors of every stage, and whose they are."""

    cut_ids: tuple[str, ...] = ()


MAX_OPEN_FILES = 200  # shards that lhotse keeps open; systems allow a process 1024, and a large corpus has more shards


@dataclass(frozen=True)
class CropSettings:
    """What is cropped for which stage, and how its crops become tensors; the mappings are by stage name."""

    collate: Mapping[str, Callable[[Sequence[CroppedTokens]], dict[str, Tensor]]]
    seconds: Mapping[str, float]  # of the longest crop
    num_quantizers: int
    seed: int
    crops: Mapping[str, int] = field(default_factory=dict)  # of a cut; 1 for a stage that is not named


@dataclass(frozen=True)
class Tokens:
    """One cut's streams, whole periods of the timeline."""

    cut_id: str
    units: NDArray[np.int64]  # (T_u,), empty without units
    codes: NDArray[np.int64]  # (T, Q)
    num_periods: int
    is_first: bool = True  # piece of its recording
    is_last: bool = True
    whole: Span | None = None  # its streams without what fills no whole period
    neighbour: Span | None = None  # another utterance by the same voice, where one was asked for and found


class TokenDataset(Dataset[Batch]):
    """``dataset[cuts]`` is the batch of a mini ``CutSet``, as lhotse's samplers give them."""

    def __init__(self, manifests: TokenManifests, settings: CropSettings, *, epoch: int, neighbours: Neighbours | None = None) -> None:
        self.manifests, self.settings, self.epoch, self.neighbours = manifests, settings, epoch, neighbours

    def __getitem__(self, cuts: CutSet) -> Batch:
        return self.collate([self._read(cut) for cut in cuts])

    def _read(self, cut: Cut) -> Tokens:
        """A cut's tokens and, with ``neighbours``, those of another one by the same voice."""
        tokens = read_tokens(cut, self.manifests, self.settings.num_quantizers)
        if self.neighbours is None:
            return tokens
        neighbour = self.neighbours.choose(cut.id, draw(self.settings.seed, self.epoch, cut.id, "neighbour"))
        if neighbour is None:
            return tokens
        return replace(tokens, neighbour=read_tokens(neighbour, self.manifests, self.settings.num_quantizers).whole)

    @property
    def longest_seconds(self) -> float:
        """The longest crop that any trained stage takes: what a cut costs in a batch."""
        return max(self.settings.seconds[stage] for stage in self.settings.collate)

    def collate(self, examples: Sequence[Tokens]) -> Batch:
        """Every trained stage's tensors, as ``AudioLM.loss`` takes them."""
        batch = Batch({stage: collate(self.cropped(examples, stage)) for stage, collate in self.settings.collate.items()})
        batch.cut_ids = tuple(example.cut_id for example in examples)
        return batch

    def cropped(self, examples: Sequence[Tokens], stage: str) -> list[CroppedTokens]:
        """What a stage sees of each example: all first crops, then all second ones."""
        numbers = range(self.settings.crops.get(stage, 1))
        return [self._crop(example, stage, number) for number in numbers for example in examples]

    def _crop(self, example: Tokens, stage: str, number: int) -> CroppedTokens:
        settings = self.settings
        chance = draw(settings.seed, self.epoch, example.cut_id, numbered(stage, number))
        crop = choose_crop(self.manifests.timeline, num_periods=example.num_periods, seconds=settings.seconds[stage], chance=chance)
        return CroppedTokens(
            cut_id=example.cut_id, units=example.units[crop.units], codes=example.codes[crop.frames],
            starts=crop.holds_start and example.is_first, ends=crop.holds_end and example.is_last,
            seed=settings.seed, epoch=self.epoch, number=number, whole=example.whole, first_frame=crop.frames.start,
            neighbour=example.neighbour,
        )  # fmt: skip


def read_units(cut: Cut, manifests: TokenManifests) -> NDArray[np.int64]:
    """A cut's units alone ``(T_u,)``, which takes half the time; refused if other tokenizers made them or the corpus has none."""
    _refuse_other_tokenizers(cut, manifests)
    if manifests.semantic is None:
        raise ManifestError(f"expected units in {manifests.folder}, found codes only; tokenize with units")
    return _load(cut, "units", manifests.semantic)


def read_tokens(cut: Cut, manifests: TokenManifests, num_quantizers: int) -> Tokens:
    """A cut's units and first ``num_quantizers`` codes; refused if other tokenizers made them."""
    _refuse_other_tokenizers(cut, manifests)
    codes = _load(cut, "codes", manifests.acoustic)
    units = _load(cut, "units", manifests.semantic) if manifests.semantic else np.zeros(0, np.int64)
    if codes.ndim != 2 or codes.shape[1] < num_quantizers:
        raise ManifestError(
            f"expected at least {num_quantizers} codebooks in cut {cut.id}, found shape {codes.shape}; lower --num-quantizers"
        )
    periods = manifests.timeline.periods_in(len(units), len(codes))
    if periods == 0:
        raise ManifestError(f"cut {cut.id} holds no whole period of tokens; raise --filter-min-duration")
    custom, codes = cut.custom or {}, codes[:, :num_quantizers]
    num_units, num_frames = manifests.timeline.align(len(units), len(codes))
    return Tokens(
        cut_id=cut.id, units=units, codes=codes, num_periods=periods, whole=Span(units[:num_units], codes[:num_frames]),
        is_first=bool(custom.get(FIRST_PIECE, True)), is_last=bool(custom.get(LAST_PIECE, True)),
    )  # fmt: skip


def _refuse_other_tokenizers(cut: Cut, manifests: TokenManifests) -> None:
    tag = (cut.custom or {}).get("tokenizers")
    if tag != manifests.tag:
        raise ManifestError(
            f"cut {cut.id} was tokenized by {tag!r} and info.json names {manifests.tag!r} ({manifests.acoustic}, {manifests.semantic}); "
            f"delete {manifests.folder} and run ./prepare.sh, so that all tokens come from one pair of tokenizers"
        )


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


def padding_share(batch: Batch) -> float:
    """Share of a batch's tokens that are padding, over all stages."""
    padded = real = 0
    for tensors in batch.values():
        stream = tensors["codes"] if "codes" in tensors else tensors["units"]
        padded += stream.shape[0] * stream.shape[1]
        real += int(tensors["lengths"].sum())
    return 1 - real / max(padded, 1)
