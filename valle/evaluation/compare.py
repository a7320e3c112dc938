"""Several models on the same items: every figure side by side, and differences by the paired bootstrap over items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from valle.errors import UserError
from valle.evaluation.figures import Figure
from valle.evaluation.kept_suites import read_suite
from valle.inference.listening_page import PageTable
from valle.measures.intervals import Estimate, paired_difference

MODEL = "model_sha256"  # of a suite's settings: what may differ
LIKELIHOODS = ("nll_",)  # a token, which only the same tokenizers make comparable

Verdict = Literal["better", "worse", "no clear difference", ""]


@dataclass(frozen=True)
class ReadReport:
    """A report of ``bin/evaluate.py`` as it lies in a folder."""

    name: str
    figures: Mapping[str, Figure]
    settings: Mapping[str, Mapping[str, Any]]  # by suite
    tokenizers: Sequence[str]
    suite_of: Mapping[str, str]  # of each figure


@dataclass(frozen=True)
class Compared:
    """One figure of all reports; ``differences`` are those of the later reports from the first, None where there are no items."""

    name: str
    figures: Sequence[Figure]
    differences: Sequence[Estimate | None]

    def verdict(self, place: int) -> Verdict:
        """Of the report at ``place``, against the first, where the interval of the difference leaves 0 out and a side is better."""
        difference = self.differences[place - 1] if place else None
        if difference is None or not isfinite(difference.low):
            return ""
        if difference.low <= 0 <= difference.high:
            return "no clear difference"
        better = self.figures[0].better
        if better == "neither":
            return ""
        return "better" if (difference.mean > 0) == (better == "higher") else "worse"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "figures": [figure.to_dict() for figure in self.figures],
            "differences": [None if one is None else {**one.to_dict(), "verdict": self.verdict(place)}
                            for place, one in enumerate(self.differences, 1)],
        }  # fmt: skip


def read_report(folder: Path, *, name: str) -> ReadReport:
    """The suites of a report; raises ``UserError`` where there are none."""
    files = sorted((folder / "suites").glob("*.json"))
    if not files:
        raise UserError(f"expected a report of bin/evaluate.py in {folder}, found no suites/*.json there; measure that model first")
    figures: dict[str, Figure] = {}
    settings, suite_of, tokenizers = {}, {}, list[str]()
    for file in files:
        result, settings[file.stem], about = read_suite(file)
        tokenizers = list(about.get("tokenizers", tokenizers))
        figures.update(result.figures)
        suite_of.update(dict.fromkeys(result.figures, file.stem))
    return ReadReport(name, figures, settings, tokenizers, suite_of)


def compare_reports(reports: Sequence[ReadReport]) -> tuple[list[Compared], list[str]]:
    """Figures that all reports have, and why others are left out; raises ``UserError`` where items or settings differ."""
    first, *others = reports
    for other in others:
        _refuse_other_settings(first, other)
    compared, left_out = [], []
    for name in first.figures:
        figures = [report.figures.get(name) for report in reports]
        known = [figure for figure in figures if figure is not None]
        if len(known) < len(reports):
            left_out.append(f"{name}: not in every report")
        elif name.startswith(LIKELIHOODS) and any(report.tokenizers != first.tokenizers for report in others):
            left_out.append(f"{name}: nats a token of other tokenizers cannot be compared")
        elif not known[0].is_control:
            differences = [_difference(name, first, known[0], report, figure) for report, figure in zip(others, known[1:], strict=True)]
            compared.append(Compared(name, known, differences))
    if not compared:
        names = " and ".join(report.name for report in reports)
        raise UserError(f"expected figures that {names} share, found none; measure the same suites")
    return compared, left_out


def compare_tables(reports: Sequence[ReadReport], compared: Sequence[Compared]) -> list[PageTable]:
    """For the terminal: a row a figure, with the difference of each later report from the first."""
    columns = ["", reports[0].name]
    for report in reports[1:]:
        columns += [report.name, "difference", "95 % interval", ""]
    rows = []
    for one in compared:
        row = [one.name, one.figures[0].shown(one.figures[0].value)]
        for place, figure in enumerate(one.figures[1:], 1):
            row += [figure.shown(figure.value), *shown_difference(one, place), one.verdict(place)]
        rows.append(row)
    note = f"Differences from {reports[0].name}, paired bootstrap over the same items."
    return [PageTable("Comparison", columns, rows, note=note)]


def shown_difference(one: Compared, place: int) -> tuple[str, str]:
    """The difference of the report at ``place`` from the first, and its interval, as people read them."""
    difference, figure = one.differences[place - 1], one.figures[0]
    if difference is None or not isfinite(difference.mean):
        return "-", "-"
    ends = (f"{figure.shown(value, bare=True)}" for value in (difference.low, difference.high))
    return f"{'+' if difference.mean > 0 else ''}{figure.shown(difference.mean)}", " to ".join(ends)


def comparison_to_json(reports: Sequence[ReadReport], compared: Sequence[Compared], left_out: Sequence[str]) -> str:
    values = {"reports": [report.name for report in reports], "figures": {one.name: one.to_dict() for one in compared},
              "left_out": list(left_out)}  # fmt: skip
    return json.dumps(values, indent=2) + "\n"


def _refuse_other_settings(first: ReadReport, other: ReadReport) -> None:
    for suite in first.settings.keys() & other.settings.keys():
        one, two = first.settings[suite], other.settings[suite]
        differ = sorted(name for name in one.keys() | two.keys() if name != MODEL and one.get(name) != two.get(name))
        if differ:
            raise UserError(
                f"expected reports of the same items, found another {', '.join(differ)} of suite {suite} in {other.name} than in "
                f"{first.name}; measure both with the same flags"
            )


def _difference(name: str, first: ReadReport, one: Figure, other: ReadReport, two: Figure) -> Estimate | None:
    if one.named is None or two.named is None:
        return None
    if one.named.names != two.named.names:
        differ = len(set(one.named.names) ^ set(two.named.names))
        raise UserError(
            f"expected the same items of {name} in {first.name} and {other.name}, found {differ} that only one of them has; "
            "measure both on the same corpus with the same flags"
        )
    return paired_difference(one.named.items, two.named.items)
