"""The comparison as a page: the models of a figure on one axis, and what the paired bootstrap says of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from valle.evaluation.compare import Compared, ReadReport, shown_difference
from valle.evaluation.figure_titles import TITLES, title_of
from valle.evaluation.report_page import draw_models, page_templates
from valle.files import replacing


def write_compare_page(path: Path, reports: Sequence[ReadReport], compared: Sequence[Compared], left_out: Sequence[str]) -> None:
    """Write the page under a temporary name and rename it; every text is escaped."""
    names = [report.name for report in reports]
    order = [*TITLES, *reports[0].settings]
    ordered = sorted(compared, key=lambda one: order.index(reports[0].suite_of[one.name]))
    sections = [
        {"id": suite, "title": TITLES.get(suite, suite.replace("_", " ")), "entries": [_entry(one, names) for one in some]}
        for suite, some in groupby(ordered, key=lambda one: reports[0].suite_of[one.name])
    ]
    page = page_templates().get_template("compare.html").render(names=names, sections=sections, left_out=left_out)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _entry(one: Compared, names: Sequence[str]) -> dict[str, object]:
    said = []
    for place, name in enumerate(names[1:], 1):
        difference, interval = shown_difference(one, place)
        said.append({"name": name, "difference": difference, "interval": interval, "verdict": one.verdict(place)})
    return {"drawing": draw_models(one.name, dict(zip(names, one.figures, strict=True))), "title": title_of(one.name), "said": said}
