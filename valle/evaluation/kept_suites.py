"""A finished suite as a file: its figures with their items, charts and sounds, and the settings that they depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from valle.errors import UserError
from valle.evaluation.charts import Chart
from valle.evaluation.figures import Figure
from valle.evaluation.kept_sounds import KeptSound
from valle.evaluation.suites import SuiteResult


def suite_to_json(result: SuiteResult, settings: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """``settings`` are what the figures depend on; ``about`` says more that a comparison needs to know."""
    values = {
        "settings": dict(settings),
        "about": dict(about),
        "figures": {name: figure.to_dict() for name, figure in result.figures.items()},
        "left_out": result.left_out,
        "charts": [chart.to_dict() for chart in result.charts],
        "sounds": [sound.to_dict() for sound in result.sounds],
        "items": {name: figure.named.to_dict() for name, figure in result.figures.items() if figure.named is not None},
    }
    return json.dumps(values, separators=(",", ":")) + "\n"


def read_suite(path: Path) -> tuple[SuiteResult, dict[str, Any], dict[str, Any]]:
    """The inverse of ``suite_to_json``; raises ``UserError`` for a damaged file.  Files of earlier versions have no items."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        items = kept.get("items", {})
        result = SuiteResult(
            figures={name: Figure.from_dict(values, items.get(name)) for name, values in kept["figures"].items()},
            left_out=list(kept["left_out"]),
            charts=[Chart.from_dict(values) for values in kept.get("charts", [])],
            sounds=[KeptSound(**values) for values in kept.get("sounds", [])],
        )
        return result, dict(kept["settings"]), dict(kept.get("about", {}))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}); delete it, and its suite is measured again") from error
