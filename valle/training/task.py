"""What the loop trains: a model bound to its data and its losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from valle.models.loss import LossTerm
from valle.training.distributed import World

Batch = Any  # nested dictionaries of tensors, as the task's data gives them


class Task(Protocol):
    """A model, the batches it learns from, and what is said of it.

    The loop calls ``model(batch)`` (wrapped for DDP), runs backward on the sum of all parts' sums, adds sums and
    counts up over ranks and micro-batches, and divides each part's gradients by its own global count.  So parts own
    disjoint parameters, and their names are the keys of ``part_parameters``.  A task of one loss has one part.

    Whatever a task draws at random in a step comes from torch's global generator, which the loop seeds for every
    step, or from hashes of (seed, epoch, example): then a run that was killed goes on bit for bit.  State that
    training changes beside the optimizer (running statistics, codebooks) lives in the model's buffers.
    """

    @property
    def model(self) -> nn.Module:
        """Called with a batch, returns ``dict[str, LossTerm]``: sum, count and hits of every part, 0-dim tensors."""
        ...

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of every part that is trained; what requires no gradient is left alone."""
        ...

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[Batch]:
        """Batches of epoch number ``epoch`` (from 1), without the first ``skip``; a function of seed and epoch alone."""
        ...

    def to_device(self, batch: Batch, device: Any) -> Batch:
        """The batch on the device."""
        ...

    def describe(self, batch: Batch) -> dict[str, float]:
        """``batch_size``, ``frames`` and ``padding`` (a share) of a batch, for the log, and whatever else tensorboard shall show."""
        ...

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[Batch]:
        """Fixed batches of the dev set (or of as many train cuts), split over ranks; the same at every call."""
        ...

    def validation_loss(self, batch: Batch) -> Mapping[str, LossTerm]:
        """Parts of one fixed batch, deterministic; may name more parts than training does (``fine_1``, ``fine_2``, ...)."""
        ...

    def part_of(self, valid_name: str) -> str:
        """The part of training that a part of ``validation_loss`` speaks of: ``fine_3`` of ``fine``."""
        ...

    def cuts_of(self, batch: Batch, *, epoch: int, number: int, world: World) -> list[str]:
        """The ids of the cuts in a batch, which is number ``number`` (from 0) of ``epoch`` on this rank."""
        ...

    def seen_seconds(self, batch: Batch) -> Mapping[str, float]:
        """The longest crop that each part sees in a batch, where parts have crops of their own; else nothing."""
        ...

    def longest_batches(self) -> Iterator[Batch]:
        """Batches of training as large as any can be, such as those of the longest cuts; none where all are alike."""
        ...

    def after_step(self, step: int, share_done: float) -> None:
        """Anything that follows an optimizer step, when ``share_done`` of ``max_steps`` or ``max_minutes`` is over (0 without either).

        Called too when a run goes on after ``step``, so it sets and never adds.
        """
        ...

    def checkpoint_fields(self, seen: Mapping[str, float] | None = None) -> dict[str, Any]:
        """What a checkpoint must hold beside the loop's own: hyper-parameters, tokenizers, identities, and what parts have ``seen``."""
        ...

    def samples(self, step: int) -> list[tuple[str, Tensor, int]]:
        """Audio for tensorboard: (tag, wav ``(T,)``, sample rate)."""
        ...
