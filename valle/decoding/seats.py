"""Which rows of a request are decoded at once, and which wait: continuous batching.

A batch has a number of places.  A row that ends leaves its place to the next one that waits, so that the batch stays full as long as rows
wait, and memory is that of the places (iteration-level scheduling, Yu et al. 2022, "Orca").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Seats:
    """The rows of a request at the places of a batch; another object as soon as one of them changes."""

    rows: tuple[int, ...]
    index: Tensor  # (B,) int64, the same on the device

    @classmethod
    def of(cls, rows: Sequence[int], device: torch.device | str = "cpu") -> Seats:
        return cls(tuple(rows), torch.tensor(rows, dtype=torch.int64, device=device))


def num_seats(rows: int, at_once: int | None) -> int:
    """Places for ``rows`` of which ``at_once`` are decoded together; all, if None."""
    return rows if at_once is None else min(rows, at_once)


class Seating:
    """The places of a batch, and who waits for one.

    Rows that must stay together (guidance: ``together`` 2, row r beside row r + n) take places, and leave them, together.
    Where there are more rows than places, rows with more to draw come first, so that few places are empty at the end.
    """

    def __init__(self, work: Sequence[int], *, at_once: int | None, together: int, device: torch.device) -> None:
        """``work``: tokens that each row draws at most; rows with nothing to draw take no place where places are few."""
        self.together, self.device, self.rows = together, device, len(work) // together
        places = num_seats(self.rows, at_once)
        order = list(range(self.rows))
        if places < self.rows:
            order = sorted((row for row in order if work[row] > 0), key=lambda row: -work[row])
        self.groups = min(places, len(order))
        self.waiting = deque(order[self.groups :])
        self.seats = self._seats(order[: self.groups])

    def take(self, ended: Sequence[bool]) -> list[int]:
        """Put rows that wait at places whose rows have all ``ended`` -> these places."""
        leaders, taken = list(self.seats.rows[: self.groups]), list[int]()
        for place in range(self.groups):
            if self.waiting and all(ended[place + part * self.groups] for part in range(self.together)):
                leaders[place] = self.waiting.popleft()
                taken.append(place)
        if taken:
            self.seats = self._seats(leaders)
        return [place + part * self.groups for part in range(self.together) for place in taken]

    def _seats(self, leaders: Sequence[int]) -> Seats:
        return Seats.of([row + part * self.rows for part in range(self.together) for row in leaders], self.device)
