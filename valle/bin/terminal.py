"""What programs show on a terminal: bars for functions that report ``progress(done, wanted)``, and closing lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from valle.tokenizing.encode_batches import ChangedTokens
from valle.tokenizing.tokenize_cuts import PartTokens


class _Bar(tqdm):
    """A bar that can say what it counts a minute."""

    @property
    def format_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = super().format_dict
        rate = values["rate"] or values["n"] / max(values["elapsed"], 1e-9)
        return {**values, "a_minute": 60 * rate}


@contextmanager
def progress_bar(title: str, unit: str, *, hidden: bool = False) -> Iterator[Callable[[float, float], None]]:
    """Yields the function to hand down; ``unit`` names what is counted, with ``h`` for seconds of audio, shown as hours and hours a minute.

    The bar appears with the first progress, so that a mistake that is found before has its line for itself.
    """
    scale = 3600.0 if unit == "h" else 1.0
    count = "{n:.2f}/{total:.2f} h" if unit == "h" else "{n:.0f}/{total:.0f} {unit}"
    rate = ", {a_minute:.2f} h/min" if unit == "h" else ""
    layout = "{desc}: {percentage:3.0f}%|{bar}| " + count + " [{elapsed}<{remaining}" + rate + "]"
    with _Bar(desc=title, total=1.0, unit=unit, bar_format=layout, mininterval=0.5, delay=0.01, dynamic_ncols=True, disable=hidden) as bar:

        def progress(done: float, wanted: float) -> None:
            bar.total = max(wanted, done) / scale
            bar.update(done / scale - bar.n)

        yield progress


@contextmanager
def named_progress() -> Iterator[Callable[[str, float, float], None]]:
    """The same for work in parts: ``progress(title, done, wanted)``, where a new title begins a new count."""
    layout = "{desc}{percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
    with tqdm(total=1.0, bar_format=layout, mininterval=0.5, delay=0.01, dynamic_ncols=True) as bar:
        shown = ""

        def progress(title: str, done: float, wanted: float) -> None:
            nonlocal shown
            if title != shown:
                bar.reset(total=wanted)
                bar.set_description(title, refresh=False)
                shown = title
            bar.total = wanted
            bar.update(done - bar.n)

        yield progress


def say_parts(parts: Mapping[str, PartTokens], dtype: str) -> None:
    """A line for each part of a corpus, and what a lower precision changed in it."""
    for part, tokens in parts.items():
        dropped = f", {tokens.num_dropped} too short for a token dropped" if tokens.num_dropped else ""
        print(f"{part}: {tokens.num_cuts} cuts, {tokens.seconds / 3600:.2f} h in {tokens.num_shards} shards{dropped}")
        say_changed(dtype, tokens.changed)


def say_changed(dtype: str, changed: ChangedTokens) -> None:
    if str(changed):
        print(f"{dtype} changed, in a sample: {changed}")


def say_speed(seconds: float, took: float) -> None:
    """``took`` is the time by the clock that ``seconds`` of audio needed."""
    print(f"{seconds / 60 / took:.2f} hours of audio per minute, {seconds / took:.0f} times real time")
