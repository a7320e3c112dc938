"""A figure of the report: a value with its interval, the controls beside it, and what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from valle.inference.listening_page import PageTable
from valle.measures.intervals import Estimate, Items

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class NamedItems:
    """The items that a figure is made of, so that another model's figure of the same items can be compared pair by pair."""

    names: tuple[str, ...]
    items: Items

    def to_dict(self) -> dict[str, Any]:
        return {"names": self.names, "parts": [_plain(part) for part in self.items.parts], "wholes": self.items.wholes}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NamedItems:
        """The inverse of ``to_dict``."""
        return cls(tuple(values["names"]), Items(tuple(_number(part) for part in values["parts"]), tuple(values["wholes"])))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value; ``low`` and ``high`` bound its 95 % interval, NaN where it has none.

    ``definition`` says exactly what was computed, ``meaning`` says it in one plain sentence, ``controls`` are values of the same measure
    where the answer is known: chance, real speech, its round trip through the codec.
    """

    value: float
    low: float
    high: float
    n: int
    corpus: str
    definition: str
    meaning: str
    controls: Mapping[str, float] = field(default_factory=dict)
    better: Better = "higher"
    unit: str = ""  # "%": the value is a share and is shown in percent
    is_control: bool = False  # what real speech or chance scores; it stands beside another figure, too
    named: NamedItems | None = field(default=None, repr=False, compare=False)  # kept beside the figure, not in its to_dict

    @classmethod
    def of(cls, estimate: Estimate | Mapping[str, Any], *, names: Sequence[str] = (), **fields: Any) -> Figure:
        """From an estimate, or from its ``to_dict``; with ``names`` of the items, one each, an estimate's items are kept."""
        values = estimate.to_dict() if isinstance(estimate, Estimate) else estimate
        items = estimate.items if isinstance(estimate, Estimate) else None
        named = NamedItems(tuple(names), items) if items is not None and len(names) == len(items.parts) else None
        return cls(value=values["mean"], low=values["low"], high=values["high"], n=int(values["count"]), named=named, **fields)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], items: Mapping[str, Any] | None = None) -> Figure:
        """The inverse of ``to_dict``, with the ``to_dict`` of its ``named`` items if there are any."""
        numbers = {name: _number(values[name]) for name in ("value", "low", "high")}
        controls = {name: _number(value) for name, value in values["controls"].items()}
        return cls(**{**values, **numbers, "controls": controls}, named=None if items is None else NamedItems.from_dict(items))

    def to_dict(self) -> dict[str, Any]:
        """Plain values without the items; what is not finite is None, as JSON has no NaN."""
        numbers = {name: _plain(getattr(self, name)) for name in ("value", "low", "high")}
        controls = {name: _plain(value) for name, value in self.controls.items()}
        others = {name: getattr(self, name) for name in ("corpus", "definition", "meaning", "better", "unit", "is_control")}
        return {**numbers, "n": self.n, "controls": controls, **others}

    @property
    def has_interval(self) -> bool:
        return isfinite(self.low) and isfinite(self.high)

    def shown(self, value: float, *, bare: bool = False) -> str:
        """A value of this measure as people read it; ``bare`` without its unit."""
        if not isfinite(value):
            return "-"
        if self.unit == "%":
            return f"{100 * value:.1f} %"
        size = abs(round(value, 3))
        digits = 3 if size < 1 else 2 if size < 100 else 0
        return f"{value:.{digits}f}{f' {self.unit}' if self.unit and not bare else ''}"

    @property
    def interval(self) -> str:
        return f"{self.shown(self.low)} to {self.shown(self.high)}" if self.has_interval else "-"


def figures_table(title: str, figures: Mapping[str, Figure]) -> PageTable:
    """A row a figure, for the terminal; controls stand beside what they control."""
    rows = [
        (
            name, figure.shown(figure.value), figure.interval, str(figure.n),
            ", ".join(f"{control} {figure.shown(value, bare=True)}" for control, value in figure.controls.items()),
        )
        for name, figure in figures.items() if not figure.is_control
    ]  # fmt: skip
    return PageTable(title, ("", "value", "95 % interval", "n", "controls"), rows)


def _plain(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
