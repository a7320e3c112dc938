"""The report as a page: one file that asks for nothing from elsewhere, with intervals and controls drawn beside each figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from valle.evaluation.chart_drawing import draw_chart, style_of
from valle.evaluation.figure_titles import BETTER, HEADLINES, TITLES, group_of, title_of
from valle.evaluation.figures import Figure
from valle.evaluation.report_players import links, player_cards
from valle.evaluation.suites import SuiteResult
from valle.files import replacing

MARGIN = 0.04  # of the axis, left free at both ends
MOST_HEADLINES = 6


@dataclass(frozen=True)
class DrawnRow:
    """One system on the axis of a figure; places in percent of its width."""

    label: str
    text: str
    place: float | None  # None where there is no value
    low: float | None = None
    high: float | None = None
    is_model: bool = False

    @property
    def style(self) -> str:
        return style_of(self.label, is_model=self.is_model)


@dataclass(frozen=True)
class Drawing:
    """A figure's rows on one axis, which the model's interval and all controls fit on."""

    name: str
    figure: Figure
    rows: Sequence[DrawnRow]
    ends: tuple[str, str]  # what stands at the two ends of the axis

    @property
    def title(self) -> str:
        return title_of(self.name)

    @property
    def better(self) -> str:
        return BETTER[self.figure.better]


def write_report_page(path: Path, suites: Mapping[str, SuiteResult], *, model: str) -> None:
    """Write the page under a temporary name and rename it; every text is escaped.

    Sounds are read from where they are kept beside the page.  Figures of controls alone, such as real speech's, stand in a table at the
    end: they are drawn beside those that they control.
    """
    sounds = [sound for result in suites.values() for sound in result.sounds]
    cards = player_cards(path.parent, sounds)
    everything = {metric: figure for result in suites.values() for metric, figure in result.figures.items()}
    page = page_templates().get_template("report.html").render(
        model=model, sections=[_section(name, result) for name, result in suites.items()], everything=_everything(suites),
        headlines=_headlines(everything), cards=cards, links=links(sounds[len(cards) :]),
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def page_templates() -> Environment:
    """The templates of this package's pages."""
    return Environment(
        loader=PackageLoader("valle.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def draw(name: str, figure: Figure) -> Drawing:
    """A model's figure beside its controls."""
    return draw_models(name, {"this model": figure})


def draw_models(name: str, figures: Mapping[str, Figure]) -> Drawing:
    """Where models, by label, and the first one's controls lie on an axis from the least to the greatest value, or 0 to 1 for shares."""
    first = next(iter(figures.values()))
    values = [value for figure in figures.values() for value in (figure.value, figure.low, figure.high)]
    known = [value for value in (*values, *first.controls.values()) if isfinite(value)] or [0.0]
    least, most = min(known), max(known)
    if first.unit == "%":
        least, most = min(0.0, least), max(1.0, most)
    reach = (most - least) or 1.0

    def place(value: float) -> float | None:
        return 100 * (MARGIN + (1 - 2 * MARGIN) * (value - least) / reach) if isfinite(value) else None

    def shown(value: float) -> str:
        return first.shown(value, bare=True)

    rows = [
        DrawnRow(label, shown(figure.value), place(figure.value), place(figure.low), place(figure.high), is_model=True)
        for label, figure in figures.items()
    ]
    rows += [DrawnRow(label, shown(value), place(value)) for label, value in first.controls.items()]
    return Drawing(name, first, rows, (first.shown(least, bare=True), first.shown(most)))


def _section(name: str, result: SuiteResult) -> dict[str, Any]:
    """A suite's figures in groups, each under its heading, in the order in which groups first occur."""
    drawings = [draw(metric, figure) for metric, figure in result.figures.items() if not figure.is_control]
    order = list(dict.fromkeys(group_of(drawing.name) for drawing in drawings))
    ordered = sorted(drawings, key=lambda drawing: order.index(group_of(drawing.name)))
    groups = [(title, list(some)) for title, some in groupby(ordered, key=lambda drawing: group_of(drawing.name))]
    return {
        "id": name, "title": TITLES.get(name, name.replace("_", " ")), "left_out": result.left_out,
        "groups": groups if len(groups) > 1 else [("", drawings)], "charts": [draw_chart(chart) for chart in result.charts],
    }  # fmt: skip


def _headlines(figures: Mapping[str, Figure]) -> list[Drawing]:
    known = [name for name in HEADLINES if name in figures and isfinite(figures[name].value)]
    return [draw(name, figures[name]) for name in known[:MOST_HEADLINES]]


def _everything(suites: Mapping[str, SuiteResult]) -> list[tuple[str, Figure]]:
    return [(metric, figure) for result in suites.values() for metric, figure in result.figures.items()]
