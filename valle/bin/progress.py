"""A progress bar for functions that report ``progress(done, wanted)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[float, float], None]]:
    """Yields the function to hand down; ``unit`` names what is counted, with ``h`` for seconds shown as hours.

    The bar appears with the first progress, so that a mistake that is found before has its line for itself.
    """
    scale = 3600.0 if unit == "h" else 1.0
    count = "{n:.2f}/{total:.2f} h" if unit == "h" else "{n:.0f}/{total:.0f} {unit}"
    layout = "{desc}: {percentage:3.0f}%|{bar}| " + count + " [{elapsed}<{remaining}]"
    with tqdm(desc=title, total=1.0, unit=unit, bar_format=layout, mininterval=0.5, delay=0.01, dynamic_ncols=True) as bar:

        def progress(done: float, wanted: float) -> None:
            bar.total = max(wanted, done) / scale
            bar.update(done / scale - bar.n)

        yield progress
