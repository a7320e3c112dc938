"""What programs that make tokens say at their end."""

from __future__ import annotations

from collections.abc import Mapping

from valle.data.tokenize import PartTokens
from valle.data.tokenize_batches import ChangedTokens


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
    print(f"{seconds / 60 / took:.2f} hours of audio a minute, {seconds / took:.0f} times real time")
