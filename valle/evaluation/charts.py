"""A chart of the report: curves or histograms of several systems on the same axes, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

Kind = Literal["line", "steps"]


@dataclass(frozen=True)
class Series:
    """One system's values over the chart's ``x``; ``low`` and ``high`` bound their 95 % intervals, where there are such."""

    label: str
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    is_model: bool = False

    def __post_init__(self) -> None:
        if not len(self.low) == len(self.high) or (self.low and len(self.low) != len(self.values)):
            raise ValueError(f"expected an interval of each of {len(self.values)} values, found {len(self.low)} and {len(self.high)}")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What is drawn: ``line`` through values at ``x``, or ``steps``, whose bins lie between neighbours in ``x`` (one more than values)."""

    title: str
    meaning: str  # one plain sentence
    x_label: str
    y_label: str
    x: Sequence[float]
    series: Sequence[Series]
    kind: Kind = "line"
    from_zero: bool = False  # whether the vertical axis holds 0

    def __post_init__(self) -> None:
        wanted = len(self.x) - (self.kind == "steps")
        for series in self.series:
            if len(series.values) != wanted:
                raise ValueError(f"expected {wanted} values of {series.label}, found {len(series.values)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is not finite is None."""
        series = [
            {**vars(one), "values": _plain(one.values), "low": _plain(one.low), "high": _plain(one.high)} for one in self.series
        ]
        return {**vars(self), "x": list(self.x), "series": series}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Chart:
        """The inverse of ``to_dict``."""
        rows = ("values", "low", "high")
        series = [Series(**{**one, **{name: _numbers(one[name]) for name in rows}}) for one in values["series"]]
        return cls(**{**values, "series": series})


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _plain(values: Sequence[float]) -> list[float | None]:
    return [float(value) if isfinite(value) else None for value in values]
