"""The table of ``benchmarks.engines`` as documents show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
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
    parts = [table]
    if values.get("acoustic"):
        speeds = [(f"`{row['name']}`", str(row["passes"]), text(row["seconds_for_10s"]), text(row["rtf"])) for row in values["acoustic"]]
        parts.append(markdown(("acoustic model, 10 s of codes", "passes", "seconds", "seconds per second of sound"), speeds))
    if values.get("starts"):
        columns = ("whole process, 10 s of new audio", "first token, s", "end, s")
        parts.append(
            markdown(columns, list(_starts(values["starts"])), f"`{values['starts_command']}`." if "starts_command" in values else "")
        )
    return "\n".join(parts)


def _starts(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Medians over the tries, with the least and the most."""
    tries: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        tries.setdefault((row["engine"], row["kernel_cache"]), []).append(row)
    for (engine, cache), found in tries.items():
        spread = [sorted(row[key] for row in found) for key in ("first_token_s", "total_s")]
        cells = [f"{text(median(of))} ({text(of[0])} to {text(of[-1])})" for of in spread]
        yield f"{NAMES.get(engine, 'auto')}, kernel cache {cache}", cells[0], cells[1]
