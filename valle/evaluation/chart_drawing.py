"""A chart as lines in a square of 1000 by 1000, which the page stretches; labels stand beside it as text, so that they keep their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import floor, isfinite, log10

from valle.evaluation.charts import Chart, Series

SIDE = 1000.0
MOST_TICKS = 5
MARGIN = 0.06  # of the vertical axis, left free at both ends

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    place: float  # percent from the left or the top
    text: str


@dataclass(frozen=True)
class DrawnSeries:
    """SVG paths: the line, its dots and the band of its intervals."""

    label: str
    style: str  # class of its colour
    line: str
    dots: str
    band: str


@dataclass(frozen=True)
class DrawnChart:
    chart: Chart
    series: Sequence[DrawnSeries]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]


def draw_chart(chart: Chart) -> DrawnChart:
    """Where everything lies; values that are not finite leave gaps."""
    values = [value for one in chart.series for row in (one.values, one.low, one.high) for value in row if isfinite(value)]
    values += [0.0] * (chart.from_zero or not values)
    least, most = min(values), max(values)
    reach = (most - least) or 1.0
    low = least if chart.from_zero and least == 0 else least - MARGIN * reach
    high = most + MARGIN * reach
    left, right = chart.x[0], chart.x[-1] if chart.x[-1] > chart.x[0] else chart.x[0] + 1

    def place(x: float, y: float) -> Point:
        return SIDE * (x - left) / (right - left), SIDE * (high - y) / (high - low)

    series = [_draw_series(chart, one, place_of=place) for one in chart.series]
    x_ticks = [Tick(place(x, 0)[0] / SIDE * 100, text) for x, text in ticks(left, right)]
    y_ticks = [Tick(place(left, y)[1] / SIDE * 100, text) for y, text in ticks(low, high)]
    return DrawnChart(chart, series, x_ticks, y_ticks)


def ticks(low: float, high: float, *, most: int = MOST_TICKS) -> list[tuple[float, str]]:
    """Round numbers within ``low..high``, at most ``most`` and one, with their text.

    >>> [text for _, text in ticks(0, 7)]
    ['0', '2', '4', '6']
    """
    raw = (high - low) / most
    size = 10.0 ** floor(log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw * 0.999)
    first = -floor(-low / step + 1e-9)
    places = [step * number for number in range(first, floor(high / step + 1e-9) + 1)]
    digits = max(0, -floor(log10(step) + 1e-9))
    return [(value, f"{value + 0.0:.{digits}f}") for value in places]


def style_of(label: str, *, is_model: bool = False) -> str:
    """Real speech and its round trip have a colour of their own, which they keep in all drawings."""
    return "new" if is_model else "real" if label == "real speech" else "codec" if label == "through the codec" else "control"


def _draw_series(chart: Chart, series: Series, *, place_of: Callable[[float, float], Point]) -> DrawnSeries:
    style = style_of(series.label, is_model=series.is_model)
    if chart.kind == "steps":
        points: list[Point] = []
        for start, stop, value in zip(chart.x[:-1], chart.x[1:], series.values, strict=True):
            points += [place_of(start, value), place_of(stop, value)]
        base = [place_of(chart.x[-1], 0.0), place_of(chart.x[0], 0.0)]
        return DrawnSeries(series.label, style, _path(points), "", _path([*points, *base]) + "Z" if series.is_model else "")
    rows = list(zip(chart.x, series.values, series.low or series.values, series.high or series.values, strict=True))
    line = dots = band = ""
    for known, some in groupby(rows, key=lambda row: all(map(isfinite, row))):
        part = list(some)
        if known:
            line += _path([place_of(x, value) for x, value, _, _ in part])
            dots += "".join(f"{_path([place_of(x, value)])}h0" for x, value, _, _ in part)
            if series.low:
                edge = [place_of(x, high) for x, _, _, high in part] + [place_of(x, low) for x, _, low, _ in reversed(part)]
                band += _path(edge) + "Z"
    return DrawnSeries(series.label, style, line, dots, band)


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
