"""The table of ``benchmarks.engines`` as documents show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import markdown, text, where

NAMES = {"native": "native step", "torch": "torch step", "llama": "Llama in transformers", "ctranslate2": "Llama in CTranslate2"}


def engines(values: Mapping[str, Any]) -> str:
    """Every engine a row, at every size, batch and number of threads; then the whole processes, where they were measured."""
    rows = []
    for row in values["rows"]:
        threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
        name = f"{row['size']}, batch {row['batch']}, {threads}: {NAMES[row['engine']]}, {row['dtype']}"
        milliseconds = (text(row["ms_at_150"]), text(row["ms_at_650"]))
        rows.append((name, text(float(row["tokens_per_s"])), *milliseconds, f"{100 * row['share_of_floor']:.0f}"))
    columns = ("", "tokens/s", "ms per step at 150 tokens", "ms per step at 650 tokens", "% of the floor")
    table = markdown(columns, rows, where(values))
    if not values.get("starts"):
        return table
    starts = [
        (f"{NAMES.get(row['engine'], 'auto')}, kernel cache {row['kernel_cache']}", text(row["first_token_s"]), text(row["total_s"]))
        for row in values["starts"]
    ]
    return f"{table}\n{markdown(('whole process, 10 s of new audio', 'first token, s', 'end, s'), starts)}"
