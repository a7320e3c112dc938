"""Batches of sequences for ``joint-lm``: which utterance does which task is a hash of (seed, epoch, utterance), rows are of like length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from valle.crops import pad
from valle.data.like_length import batches_of_like_length
from valle.data.spoken_texts import SpokenText, SpokenTexts
from valle.seeds import draw


@dataclass(frozen=True)
class Row:
    """An utterance, the number of its task, and what says the same in the task's other language."""

    spoken: SpokenText
    task: int
    partner: SpokenText | None


@dataclass(frozen=True)
class Tasks:
    """What rows are made by: shares of the tasks, their weights in the loss, and how a row becomes tokens."""

    shares: tuple[float, ...]
    weights: tuple[float, ...]
    translates: tuple[bool, ...]
    needs_units: tuple[bool, ...]
    build: Callable[[Row], tuple[list[int], int]]  # tokens, and the place of the first output


class JointBatch(dict[str, Tensor]):
    """``tokens (B, N) lengths starts weights tasks (B,)``, and whose they are."""

    cut_ids: tuple[str, ...] = ()


class JointBatches(Dataset[JointBatch]):
    """Batch number i of one epoch; every utterance stands in one of them, up to what ranks do not share equally."""

    def __init__(self, rows: Sequence[Row], tasks: Tasks, *, max_tokens: int, seed: int, epoch: int) -> None:
        self.rows, self.tasks = rows, tasks
        lengths = [len(tasks.build(row)[0]) for row in rows]
        ids = [row.spoken.id for row in rows]
        self.batches = batches_of_like_length(lengths, ids, most=max_tokens, seed=seed, epoch=epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> JointBatch:
        chosen = [self.rows[place] for place in self.batches[index]]
        built = [self.tasks.build(row) for row in chosen]
        tokens, lengths = pad([np.array(sequence, np.int64) for sequence, _ in built])
        batch = JointBatch(
            tokens=tokens, lengths=lengths, starts=torch.tensor([start for _, start in built]),
            weights=torch.tensor([self.tasks.weights[row.task] for row in chosen]), tasks=torch.tensor([row.task for row in chosen]),
        )  # fmt: skip
        batch.cut_ids = tuple(row.spoken.id for row in chosen)
        return batch


def rows_of_epoch(texts: SpokenTexts, tasks: Tasks, *, seed: int, epoch: int, text_share: float = 1.0) -> list[Row]:
    """Every utterance once, with a task by the tasks' shares among those that it can do, and one of its partners.

    Of sentences that nobody speaks, a ``text_share`` that is drawn for the epoch.
    """
    rows = []
    for spoken in texts.by_id.values():
        if not spoken.is_spoken and draw(seed, epoch, spoken.id, "text") >= text_share:
            continue
        partners = texts.partners(spoken)
        able = [number for number in range(len(tasks.shares)) if _is_able(spoken, partners, tasks, number)]
        total, chance = sum(tasks.shares[number] for number in able), draw(seed, epoch, spoken.id, "task")
        if not total:
            continue
        chance *= total
        for number in able:
            chance -= tasks.shares[number]
            if chance < 0:
                break
        rows.append(Row(spoken, number, _partner(partners, tasks.translates[number], draw(seed, epoch, spoken.id, "partner"))))
    return rows


def rows_of_all_tasks(texts: SpokenTexts, tasks: Tasks, *, most: int) -> list[Row]:
    """The first ``most`` utterances that can do each task, for validation."""
    rows = []
    for number, needs in enumerate(tasks.translates):
        able = [spoken for spoken in texts.by_id.values() if _is_able(spoken, texts.partners(spoken), tasks, number)][:most]
        rows += [Row(spoken, number, _partner(texts.partners(spoken), needs, draw(0, 0, spoken.id, "partner"))) for spoken in able]
    return rows


def _is_able(spoken: SpokenText, partners: list[SpokenText], tasks: Tasks, number: int) -> bool:
    """Whether an utterance can do task ``number``."""
    return (bool(partners) or not tasks.translates[number]) and (spoken.is_spoken or not tasks.needs_units[number])


def _partner(partners: list[SpokenText], needs: bool, chance: float) -> SpokenText | None:
    return partners[int(chance * len(partners))] if needs else None
