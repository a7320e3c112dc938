"""The report's figures as tensorboard scalars, so that reports of several steps of a run stand in one chart."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from valle.evaluation.suites import SuiteResult


def write_scalars(folder: Path, suites: Mapping[str, SuiteResult], *, step: int) -> None:
    """An event file in ``folder`` with ``SUITE/FIGURE`` at ``step``, and a chart of each figure with its interval.

    The file has a name of its own, so event files that are there stay as they are.
    """
    from torch.utils.tensorboard import SummaryWriter  # a second to import

    writer = SummaryWriter(str(folder), filename_suffix=".evaluate")
    layout: dict[str, dict[str, list[object]]] = {}
    for suite, result in suites.items():
        for name, figure in result.figures.items():
            ends = {"": figure.value, "_low": figure.low, "_high": figure.high}
            for ending, value in ends.items():
                if isfinite(value):
                    writer.add_scalar(f"{suite}/{name}{ending}", value, step)
            if figure.has_interval:
                layout.setdefault(suite, {})[name] = ["Margin", [f"{suite}/{name}{ending}" for ending in ends]]
    if layout:
        writer.add_custom_scalars(layout)
    writer.close()
