"""What the README shows of all results, each beside a peer, real audio or chance, and every goal for docs/results.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.row_names import figures_of
from benchmarks.tables import Results, interval, markdown, text, where
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, BUNDLED_SEMANTIC

Row = tuple[str, str, str]
GOAL_FILES = ("basics", "memory", "long_audio", "encode_share")
REAL, MODEL = "LibriSpeech test-other", "audio-lm"  # a corpus and a model of voices_kept.json
SHAPE = "256x4, batch 1"  # of decoding


def works(results: Results) -> str | None:
    """At most eight results, each beside something known."""
    rows = [
        *_bundled_voice(results.get("voices_kept", {})),
        *_demo_voice(results.get("demo", {})),
        *_codec(results.get("tokenizers", {})),
        *_units(results.get("tokenizers", {})),
        *_speed(results.get("basics", {})),
        *_acoustic(results.get("acoustic_models", {})),
    ]
    return markdown(("result", "valle", "beside it"), rows, align="---") if rows else None


def goals(results: Results) -> str | None:
    """Every figure that has a goal, and whether it is met."""
    tables = []
    for name in GOAL_FILES:
        rows = [
            (words, text(found["value"]), found["goal"], "met" if found["met"] else "**missed**")
            for words, found in figures_of(results.get(name))
            if "goal" in found
        ]
        if rows:
            tables.append(markdown(("figure", "measured", "goal", ""), rows, where(results[name])))
    return "\n".join(tables) if tables else None


def _bundled_voice(voices: Mapping[str, Any]) -> Iterator[Row]:
    report = voices.get("corpora", {}).get(REAL, {}).get(MODEL)
    if report:
        yield f"prompt's voice kept, bundled model, {REAL}", interval(report["generated"]), _controls(report)


def _demo_voice(demo: Mapping[str, Any]) -> Iterator[Row]:
    if demo and "left_out" not in demo["voices"]:
        name = f"prompt's voice kept, model that `make demo` trains in {demo['seconds'] / 60:.0f} min"
        yield name, interval(demo["voices"]["generated"]), _controls(demo["voices"])


def _controls(voices: Mapping[str, Any]) -> str:
    real, decoded, wrong = (f"{100 * voices[name]['mean']:.0f} %" for name in ("real", "round_trip", "shuffled"))
    return f"real speech {real}, through the codec {decoded}, wrong prompt {wrong}"


def _codec(tokenizers: Mapping[str, Any]) -> Iterator[Row]:
    rows = [row for row in tokenizers.get("codecs", []) if "stoi_real" in row]
    ours = [row for row in rows if row["name"] == BUNDLED_ACOUSTIC]
    opus = next((row for row in rows if row["name"].startswith("opus")), None)
    if ours and opus:
        most = max(ours, key=lambda row: row["n_codebooks"])
        said = [f"{row['stoi_real']:.2f} at {row['kbps']:.1f} kbit/s" for row in (most, opus)]
        yield f"STOI of the bundled codec, {REAL}", said[0], f"Opus {said[1]}, the recording 1"


def _units(tokenizers: Mapping[str, Any]) -> Iterator[Row]:
    errors = {(row["name"], row["corpus"]): 100 * row["abx_across"]["mean"] for row in tokenizers.get("units", [])}
    mean = "" if all("flat" in row["abx_across"] for row in tokenizers.get("units", [])) else " (flat mean over cells)"
    for corpus, words in (("real", REAL), ("synthetic", "unheard synthetic voices")):
        ours, mfcc = errors.get((BUNDLED_SEMANTIC, corpus)), errors.get(("mfcc50", corpus))
        if ours is not None and mfcc is not None:
            yield f"ABX error of the bundled units across speakers, {words}{mean}", f"{ours:.1f} %", f"MFCC units {mfcc:.1f} %, chance 50 %"


def _speed(basics: Mapping[str, Any]) -> Iterator[Row]:
    decoding = basics.get("decoding", {}).get(SHAPE, {})
    if "llama_tokens_per_s" in decoding:
        ours, llama = (f"{decoding[f'{name}_tokens_per_s']['value']:.0f}" for name in ("ours", "llama"))
        yield "decoding, 4 layers of 256, one CPU thread, tokens/s", ours, f"Llama of that size in transformers {llama}"


def _acoustic(models: Mapping[str, Any]) -> Iterator[Row]:
    """The acoustic model that speaks most clearly, and the fastest one, each beside the others."""
    first = [row for row in models.get("models", []) if row["corpus"] == "espeak"]
    if not first:
        return
    clear = sorted(first, key=lambda row: -row["stoi"]["mean"])
    others = ", ".join(f"`{row['name']}` {row['stoi']['mean']:.2f}" for row in clear[1:])
    name = f"STOI along a recording's own units, acoustic model `{clear[0]['name']}`, {models['minutes_each']:g} min of training"
    yield name, f"{clear[0]['stoi']['mean']:.2f}", f"{others}, the codec alone {clear[0]['stoi_of_round_trip']['mean']:.2f}"
    fast = sorted(first, key=lambda row: float(row["rtf"]))
    others = ", ".join(f"`{row['name']}` {10 * row['rtf']:.1f} s" for row in fast[1:])
    yield f"time for 10 s of new audio on one CPU core, acoustic model `{fast[0]['name']}`", f"{10 * fast[0]['rtf']:.1f} s", f"{others}"
