"""The report as a page: one file that asks for nothing from elsewhere, with intervals and controls drawn beside each figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from valle.evaluation.figures import Figure
from valle.evaluation.suites import SuiteResult
from valle.files import replacing

TITLES = {"codec": "What the codec keeps", "units": "What the units tell", "lm": "How well tokens are predicted",
          "continuation": "What the model says"}  # fmt: skip
BETTER = {"higher": "higher is better", "lower": "lower is better", "neither": "nearest to real speech is best"}
MARGIN = 0.04  # of the axis, left free at both ends


@dataclass(frozen=True)
class DrawnRow:
    """One system on the axis of a figure; places in percent of its width."""

    label: str
    text: str
    place: float | None  # None where there is no value
    low: float | None = None
    high: float | None = None
    is_model: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure's rows on one axis, which the model's interval and all controls fit on."""

    name: str
    figure: Figure
    rows: Sequence[DrawnRow]
    ends: tuple[str, str]  # what stands at the two ends of the axis

    @property
    def better(self) -> str:
        return BETTER[self.figure.better]


def write_report_page(path: Path, suites: Mapping[str, SuiteResult], *, model: str) -> None:
    """Write the page under a temporary name and rename it; every text is escaped.

    Figures of controls alone, such as real speech's, stand in a table at the end: they are drawn beside those that they control.
    """
    environment = Environment(
        loader=PackageLoader("valle.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections = [
        {
            "title": TITLES[name],
            "drawings": [draw(metric, figure) for metric, figure in result.figures.items() if not figure.is_control],
            "left_out": result.left_out,
        }
        for name, result in suites.items()
    ]
    everything = [(metric, figure) for result in suites.values() for metric, figure in result.figures.items()]
    page = environment.get_template("report.html").render(model=model, sections=sections, everything=everything)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def draw(name: str, figure: Figure) -> Drawing:
    """Where everything of a figure lies on an axis from the least to the greatest of its values, or from 0 to 1 for shares."""
    values = [value for value in (figure.value, figure.low, figure.high, *figure.controls.values()) if isfinite(value)] or [0.0]
    least, most = min(values), max(values)
    if figure.unit == "%":
        least, most = min(0.0, least), max(1.0, most)
    reach = (most - least) or 1.0

    def place(value: float) -> float | None:
        return 100 * (MARGIN + (1 - 2 * MARGIN) * (value - least) / reach) if isfinite(value) else None

    text = figure.shown(figure.value, bare=True)
    own = DrawnRow("this model", text, place(figure.value), place(figure.low), place(figure.high), is_model=True)
    controls = [DrawnRow(label, figure.shown(value, bare=True), place(value)) for label, value in figure.controls.items()]
    return Drawing(name, figure, [own, *controls], (figure.shown(least, bare=True), figure.shown(most)))
