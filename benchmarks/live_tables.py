"""Tables of ``benchmarks.live``, ``live_blocks`` and ``live_soak`` as documents show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import Results, interval, markdown, where

MODELS = {"demo": "demo's model", "bundled": "bundled model"}


def live(results: Results) -> str | None:
    """First audio, work and listeners of each model that was measured."""
    values = results.get("live", {})
    measured = {name: of_model for name in MODELS if "first_audio_ms" in (of_model := values if name == "demo" else values.get(name, {}))}
    if not measured:
        return None
    rows = [
        ("first audio, median", *(_goal(one["first_audio_ms"]["p50"], "ms", 0) for one in measured.values())),
        ("first audio, 95th percentile", *(_goal(one["first_audio_ms"]["p95"], "ms", 0) for one in measured.values())),
        ("work per second of new audio", *(_goal(one["rtf"], "s", 2) for one in measured.values())),
        ("sound that a player must hold, 95th percentile", *(f"{one['buffer_ms']['p95']:.0f} ms" for one in measured.values())),
        ("streams at once, each in real time", *(str(one.get("streams_at_rtf_1", "-")) for one in measured.values())),
        ("listeners at once without a gap", *(_held(one) for one in measured.values())),
        ("the next one, with so many `--places`", *(_beyond(one) for one in measured.values())),
        ("with one place more", *(_more(one) for one in measured.values())),
    ]
    first = next(iter(measured.values()))
    note = f"{first['streams']} prompts of 3 s each, one core; listeners: all cores. {where(first)}"
    return markdown(("", *(MODELS[name] for name in measured)), rows, note, align="---")


def live_blocks(values: Mapping[str, Any]) -> str:
    """A row a length of block."""
    names = list(values["judged"] if "judged" in values else values["timed"])
    rows = []
    for name in names:
        timed, voice = values["timed"].get(name), values.get("judged", {}).get(name)
        rows.append((
            name if timed is None or not timed["first_block_seconds"] else f"{name}: {_schedule(timed)}",
            "-" if voice is None else interval(voice["generated"]),
            "-" if timed is None else f"{timed['first_audio_ms']['value']:.0f} ms",
            "-" if timed is None else f"{timed['rtf']['value']:.2f}",
        ))  # fmt: skip
    bounds = next(iter(values.get("judged", {}).values()), None)
    said = "" if bounds is None else (
        f"Bounds of voice kept: real speech through the codec {interval(bounds['round_trip'])}, a wrong prompt "
        f"{interval(bounds['shuffled'])}. "
    )  # fmt: skip
    return markdown(("block", "voice kept", "first audio", "work per second of audio"), rows, f"{said}{where(values)}")


def live_soak(results: Results) -> str | None:
    """A row a soak."""
    soaks = results.get("live", {}).get("soak", {})
    if not soaks:
        return None
    rows = []
    for name, words in (("short", "tiny model, short streams"), ("hour", "demo's model, listeners in real time")):
        if (soak := soaks.get(name)) is not None:
            memory, left = soak["memory_mib"], soak["left"]
            rows.append((
                words, str(soak["streams"]), f"{soak['seconds_with_listeners'] / 60:.0f} min",
                *(f"{memory[moment]:.0f} MiB" for moment in ("start", "settled", "end")),
                str(left["tasks"] + left["handlers"] + left["active"]),
                *(str(left[name]) for name in ("threads", "descriptors", "warnings")),
            ))  # fmt: skip
    columns = (
        "", "streams", "time", "memory at the start", "after a quarter", "at the end", "tasks left", "threads", "descriptors",
        "lines logged",
    )  # fmt: skip
    return markdown(columns, rows, where(next(iter(soaks.values()))))


def _goal(figure: Mapping[str, Any], unit: str, digits: int) -> str:
    return f"{figure['value']:.{digits}f} {unit} (goal {figure['goal']}: {'met' if figure['met'] else 'missed'})"


def _held(values: Mapping[str, Any]) -> str:
    held = values.get("listeners")
    return "-" if held is None else f"{held['held']}, first audio {held['first_audio_ms'] or 0:.0f} ms"


def _beyond(values: Mapping[str, Any]) -> str:
    beyond = values.get("listeners", {}).get("beyond")
    return f"`{beyond['code']}`, come back in {beyond['retry_after']} s" if beyond else "-"


def _more(values: Mapping[str, Any]) -> str:
    more = values.get("listeners", {}).get("one_place_more")
    return f"{more['with_a_gap']} of {more['listeners']} hear a gap" if more else "-"


def _schedule(timed: Mapping[str, Any]) -> str:
    return f"{', '.join(f'{seconds:g}' for seconds in timed['first_block_seconds'])}, then {timed['block_seconds']:g} s"
