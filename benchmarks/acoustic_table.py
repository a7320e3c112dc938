"""The table of ``benchmarks.acoustic_models`` as documents show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import interval, markdown, text, where


def acoustic_models(values: Mapping[str, Any]) -> str:
    """Every acoustic model a row; below it what bounds its figures."""
    rows = []
    for row in values["models"]:
        nats = row["nats_per_second"]
        rows.append((
            f"`{row['name']}`", text(row["parameters"] / 1e6), str(row["steps"]), text(row["hours_of_audio_read"]),
            "-" if nats is None else f"{nats['valid_nats_per_second']:.0f}", interval(row["voice_kept"]),
            f"{row['stoi']['mean']:.2f}", *(text(row["seconds_for_10s"][engine]) for engine in ("torch", "native")),
            str(row["peak_memory_mib"] or "-"),
        ))  # fmt: skip
    columns = (
        "model", "parameters, M", "steps", "hours read", "nats per second of codes", "voice kept", "STOI",
        "seconds for 10 s, torch step", "native step", "memory, MiB",
    )  # fmt: skip
    first = values["models"][0]
    unigram = next(row["nats_per_second"]["unigram_nats_per_second"] for row in values["models"] if row["nats_per_second"])
    controls = {name: interval(first["controls"][name]) for name in ("round_trip", "shuffled")}
    note = (
        f"{values['minutes_each']:g} minutes of one core each. Bounds: {unigram:.0f} nats per second under the unigram; voice kept by real "
        f"speech through the codec {controls['round_trip']}, with a wrong prompt {controls['shuffled']}; STOI of the codec's round trip "
        f"{first['stoi_of_round_trip']['mean']:.2f}. {where(values)}"
    )
    return markdown(columns, rows, note)
