"""The table of quality.json: each figure of the bundled model and of the hour's, beside its controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import markdown, where

MODELS = {"bundled": "bundled model", "hour": "hour's model"}
SHOWN = ("syn_", "wer_", "words_in_lexicon_", "words_score_", "voice_", "abx_", "detector_", "watermark_")  # in this order
OTHER_SCORES = ("_mean", "_window", "_gain")  # of the language suites: in the report
MOST_CONTROLS = 4


def quality(values: Mapping[str, Any]) -> str:
    """Rows by metric; a model that has no such figure has an empty cell."""
    models = {key: words for key, words in MODELS.items() if key in values}
    names = sorted({name for key in models for name in values[key] if not name.endswith(OTHER_SCORES)}, key=_place)
    rows = []
    for name in names:
        found = {key: values[key].get(name) for key in models}
        first = next(row for row in found.values() if row)
        controls = [f"{label} {_shown(value)}" for label, value in first["controls"].items() if not label.startswith("by ")]
        rows.append((f"`{name}`", *(_cell(row) for row in found.values()), ", ".join(controls[:MOST_CONTROLS]), str(first["n"])))
    return markdown(("figure", *models.values(), "controls", "n"), rows, "95 % intervals in brackets. " + where(values))


def _place(name: str) -> tuple[int, str]:
    return next(place for place, start in enumerate(SHOWN) if name.startswith(start)), name


def _cell(row: Mapping[str, Any] | None) -> str:
    if not row:
        return ""
    return _shown(row["value"]) + (f" ({_shown(row['low'])} to {_shown(row['high'])})" if row["low"] is not None else "")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
