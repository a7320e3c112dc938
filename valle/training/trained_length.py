"""How long the crops were that a stage has really learned from: past that, what it makes is made by windows that slide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint
from valle.models.released import read_released_config
from valle.timeline import Timeline


def seconds_in(batch: Mapping[str, Mapping[str, Tensor]], timeline: Timeline) -> dict[str, float]:
    """The longest crop of each stage in a batch."""
    longest = {}
    for stage, tensors in batch.items():
        if "lengths" not in tensors:
            continue
        grid = timeline.codes if "codes" in tensors else timeline.units
        assert grid is not None
        longest[stage] = float(int(tensors["lengths"].max()) * grid.step)
    return longest


def trained_seconds(seen: Mapping[str, float], *, before: Mapping[str, float], asked: Mapping[str, float]) -> dict[str, float]:
    """Of each stage the longest crop that its weights have seen, in this run or ``before``; what was ``asked`` for of one that saw none."""
    return {stage: max(seen.get(stage, 0.0), before.get(stage, 0.0)) or seconds for stage, seconds in asked.items()}


def trained_frames(seconds: Mapping[str, float], timeline: Timeline) -> dict[str, int]:
    """The same in frames, as a model's configuration has it."""
    return {stage: max(1, timeline.periods_for(value)) * timeline.frames_per_period for stage, value in seconds.items()}


def seconds_seen_by(source: Path) -> dict[str, float]:
    """What the stages of a checkpoint or a released folder have seen; nothing where it does not say."""
    state: Mapping[str, Any] = read_released_config(source) if source.is_dir() else load_checkpoint(source)
    found = state.get("trained_seconds", {})
    try:
        return {stage: float(seconds) for stage, seconds in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"expected seconds for each stage in the trained_seconds of {source}; export the model anew") from error
