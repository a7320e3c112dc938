"""A picture of a run's training curves, from its ``curves.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from valle.errors import UserError
from valle.files import replacing
from valle.models.registry import all_stages, stage_of
from valle.timeline import ceil_division

PANELS = 4  # side by side
INK, PALE, LINE = "#1b1b22", "#a9aeb9", "#c2410c"


class CurvesError(UserError):
    """Curves that are missing or hold nothing."""


@dataclass
class Curve:
    """Nats a token over steps, on train and on dev."""

    train: list[tuple[int, float]] = field(default_factory=list)
    valid: list[tuple[int, float]] = field(default_factory=list)


def read_curves(path: Path) -> dict[str, Curve]:
    """Curves of every part, in the order of the stages; half a line at the end of a running trainer's file is passed over."""
    if not path.is_file():
        raise CurvesError(f"expected training curves at {path}, found none; name the exp-dir of a training run")
    curves: dict[str, Curve] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            part, kind, point = str(row["part"]), row["kind"], (int(row["step"]), float(row["nll"]))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            continue
        if kind in ("train", "valid") and isfinite(point[1]):
            getattr(curves.setdefault(part, Curve()), kind).append(point)
    if not curves:
        raise CurvesError(f"expected training curves in {path}, found no values yet; wait for the first log line")
    return dict(sorted(curves.items(), key=lambda item: _order(item[0])))


def draw_curves(curves: Mapping[str, Curve], path: Path, *, unigram: Mapping[str, float] | None = None, unit: str = "nats a token") -> None:
    """A PNG with one panel a stage, levels of a stage as lines of one panel; written under a temporary name and renamed.

    ``unigram`` are nats a token without any context, by part.
    """
    stages: dict[str, dict[str, Curve]] = {}
    for part, curve in curves.items():
        stages.setdefault(stage_of(part), {})[part] = curve
    columns = min(len(stages), PANELS)
    rows = ceil_division(len(stages), columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (stage, parts) in enumerate(stages.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.set_title(stage, loc="left", fontsize=11, fontweight="bold")
        _draw_stage(axes, parts, unigram or {})
        axes.set_xlabel("steps", fontsize=9)
        if place % columns == 0:
            axes.set_ylabel(unit, fontsize=9)
    with replacing(path, ending=".tmp.png") as temporary:
        figure.savefig(temporary)


def _draw_stage(axes: Any, parts: Mapping[str, Curve], unigram: Mapping[str, float]) -> None:
    measured = [part for part, curve in parts.items() if curve.valid]
    for part, curve in parts.items():
        level = part.partition("_")[2]
        label = f"dev, level {level}" if level.isdigit() else f"dev, {level}" if level else "dev"
        shade: Any = LINE
        if len(measured) > 1 and part in measured:
            shade = colormaps["YlOrBr_r"](0.15 + 0.6 * measured.index(part) / len(measured))
        if curve.train:
            axes.plot(*zip(*curve.train, strict=True), color=PALE, linewidth=1.2, label="train", zorder=1)
        if curve.valid:
            axes.plot(*zip(*curve.valid, strict=True), color=shade, linewidth=1.5, marker="o", markersize=2.5, label=label)
        if part in unigram:
            axes.axhline(unigram[part], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="unigram")
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, ncols=2 if len(measured) > 3 else 1)


def _order(part: str) -> tuple[int, int]:
    stages, level = list(all_stages()), part.partition("_")[2]
    return (stages.index(stage_of(part)) if stage_of(part) in stages else len(stages), int(level) if level.isdigit() else 0)
