"""The lines of a manifest in a random order that is a function of their ids alone, in bounded memory.

A sampler that reads in order mixes only what its buffer holds: of a corpus sorted by speaker, a few speakers at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from valle.corpora.manifests import id_of
from valle.tokenizing.cut_index import mark_of

IN_MEMORY = 100_000  # lines, about 100 MB
NUM_FILES = 64  # among which more lines are dealt by the first bits of their marks, each sorted by itself

Line = tuple[str, int]  # a cut and the number of its shard


def shuffled(lines: Iterable[Line], *, num_lines: int, folder: Path, in_memory: int = IN_MEMORY) -> Iterator[Line]:
    """All ``lines`` in the order of their marks; more than ``in_memory`` of them go through files in ``folder``."""
    if num_lines <= in_memory:
        yield from _sorted((mark_of(id_of(line)), line, shard) for line, shard in lines)
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".shuffle-") as place:
        paths = [Path(place) / f"{number:02d}" for number in range(NUM_FILES)]
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("w", encoding="utf-8", newline="\n")) for path in paths]
            for line, shard in lines:
                mark = mark_of(id_of(line))
                files[mark * NUM_FILES >> 64].write(f"{mark} {shard} {line.rstrip()}\n")
        for path in paths:
            with path.open(encoding="utf-8", newline="\n") as dealt:
                yield from _sorted(_parsed(dealt))
            path.unlink()


def _parsed(dealt: Iterable[str]) -> Iterator[tuple[int, str, int]]:
    for text in dealt:
        mark, shard, line = text.split(" ", 2)
        yield int(mark), line, int(shard)


def _sorted(marked: Iterable[tuple[int, str, int]]) -> Iterator[Line]:
    for _, line, shard in sorted((mark, line.rstrip(), shard) for mark, line, shard in marked):
        yield line, shard
