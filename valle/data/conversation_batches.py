"""Batches for ``conversation``: every turn once an epoch behind earlier turns of its dialogue, of which a hash says how many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from valle.crops import pad
from valle.data.dialogues import Dialogue, Turn, turns_that_count
from valle.data.like_length import batches_of_like_length
from valle.seeds import draw


class Row(Protocol):
    """``pieces (N,)``, ``codes (N, Q)``, and the place from which the frames to learn stand."""

    @property
    def pieces(self) -> NDArray[np.int64]: ...

    @property
    def codes(self) -> NDArray[np.int64]: ...

    @property
    def start(self) -> int: ...


@dataclass(frozen=True)
class Asked:
    """A turn to be learned and what was said before it, the turn itself last."""

    id: str
    turns: tuple[Turn, ...]


class ConversationBatch(dict[str, Tensor]):
    """The tensors that ``ConversationLM.level_terms`` takes, and whose they are."""

    cut_ids: tuple[str, ...] = ()


class ConversationBatches(Dataset[ConversationBatch]):
    """Batch number i of one epoch; every turn stands in one of them, up to what ranks do not share equally."""

    def __init__(
        self, asked: Sequence[Asked], build: Callable[[Sequence[Turn]], Row], *, max_tokens: int, depth_share: float, seed: int, epoch: int
    ) -> None:
        self.asked, self.build = asked, build
        self.depth_share, self.seed, self.epoch = depth_share, seed, epoch
        lengths = [len(build(one.turns).pieces) for one in asked]
        self.batches = batches_of_like_length(lengths, [one.id for one in asked], most=max_tokens, seed=seed, epoch=epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> ConversationBatch:
        chosen = [self.asked[place] for place in self.batches[index]]
        rows = [self.build(one.turns) for one in chosen]
        pieces, lengths = pad([row.pieces for row in rows])
        codes, _ = pad([row.codes for row in rows])
        size = pieces.shape[1]
        places, deep, weights = list[int](), list[int](), list[float]()
        for number, (one, row) in enumerate(zip(chosen, rows, strict=True)):
            frames = range(row.start, len(row.pieces))
            places += [number * size + place for place in frames]
            learned = self._drawn(one.id, frames[:-1])  # the end has no other levels
            deep += [number * size + place for place in learned]
            weights += [(len(frames) - 1) / len(learned)] * len(learned)
        batch = ConversationBatch(
            pieces=pieces, codes=codes, lengths=lengths, places=torch.tensor(places), depth_places=torch.tensor(deep),
            depth_weights=torch.tensor(weights),
        )  # fmt: skip
        batch.cut_ids = tuple(one.id for one in chosen)
        return batch

    def _drawn(self, turn: str, frames: Sequence[int]) -> Sequence[int]:
        """A random share of a turn's frames, at least one, in order; by the turn itself, never by its batch mates."""
        if self.depth_share >= 1:
            return frames
        chances = {frame: draw(self.seed, self.epoch, turn, f"depth {frame}") for frame in frames}
        return sorted(sorted(frames, key=chances.__getitem__)[: max(1, round(self.depth_share * len(frames)))])


def asked_of_epoch(dialogues: Sequence[Dialogue], *, most_frames: int, seed: int, epoch: int) -> list[Asked]:
    """Every turn with 0 to all of the earlier turns that last up to ``most_frames`` together; in epoch 0, of validation, with all."""
    found = []
    for dialogue in dialogues:
        turns = turns_that_count(dialogue)
        for place, turn in enumerate(turns):
            first, frames = place, 0
            while first and frames + len(turns[first - 1].codes) <= most_frames:
                first -= 1
                frames += len(turns[first].codes)
            if epoch:
                first = place - int(draw(seed, epoch, turn.id, "earlier") * (place - first + 1))
            found.append(Asked(turn.id, tuple(turns[first : place + 1])))
    return found
