"""Recordings that are read, or brought to a model's form, when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from valle.audio import Waveform


class Recordings(Sequence[Waveform]):
    """Recordings ``(T,)`` of any number, of which none is kept: what is in memory is what its users hold.

    >>> import numpy as np
    >>> [len(wav) for wav in Recordings(lambda number: np.zeros(number, np.float32), count=3)]
    [0, 1, 2]
    """

    def __init__(self, read: Callable[[int], Waveform], *, count: int) -> None:
        """``read(number)`` gives recording ``number``, the same whenever it is asked for."""
        self._read, self._count = read, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        if isinstance(number, slice):
            return [self._read(one) for one in range(self._count)[number]]
        return self._read(range(self._count)[number])

    def __iter__(self) -> Iterator[Waveform]:
        return (self._read(number) for number in range(self._count))
