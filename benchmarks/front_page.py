"""What the README shows of all results, each beside a peer, real audio or chance, and every goal for docs/results.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.row_names import figures_of
from benchmarks.sound_table import CONTROLS
from benchmarks.tables import Results, interval, markdown, text, where
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, BUNDLED_SEMANTIC

Row = tuple[str, str, str]
GOAL_FILES = ("basics", "memory", "long_audio", "encode_share")
REAL, MODEL = "LibriSpeech test-other", "valle/assets/audio-lm"  # a corpus, and a model of sound.json
BUNDLED = {"words_in_lexicon": "heard words that exist", "voice_kept": "prompt's voice kept for 7 s"}
SHAPE = "256x4, batch 1"  # of decoding


def works(results: Results) -> str | None:
    """At most ten results, each beside something known."""
    rows = [
        *_bundled(results.get("sound", {})),
        *_demo_voice(results.get("demo", {})),
        *_codec(results.get("tokenizers", {})),
        *_units(results.get("sound_units", {})),
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


def _bundled(sound: Mapping[str, Any]) -> Iterator[Row]:
    """Words of the bundled model on the first corpus, and voices on the first and the last, which are synthetic and real."""
    models = [(corpus, found[MODEL]) for corpus, found in sound.get("corpora", {}).items() if MODEL in found]
    shown = [(corpus, "words_in_lexicon", found) for corpus, found in models[:1]]
    shown += [(corpus, "voice_kept", found) for corpus, found in (models[:1] + models[1:][-1:])]
    for corpus, key, found in shown:
        controls = found[key]["controls"]
        beside = ", ".join(f"{CONTROLS[name]} {100 * control['value']:.0f} %" for name, control in controls.items())
        yield f"{BUNDLED[key]}, bundled model, {corpus}", _percent(found[key]), beside


def _percent(found: Mapping[str, Any]) -> str:
    return f"{100 * found['value']:.0f} % ({100 * found['low']:.0f} to {100 * found['high']:.0f})"


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


def _units(found: Mapping[str, Any]) -> Iterator[Row]:
    for corpus in found.get("corpora", {}).values():
        control, *rows = corpus["rows"]
        ours = next((row for row in rows if row["name"] == BUNDLED_SEMANTIC), None)
        if ours is not None:
            errors = [f"{100 * row['abx']['units']['collapsed']['mean']:.1f} %" for row in (ours, control)]
            yield f"ABX error of the bundled units across speakers, {corpus['title']}", errors[0], f"MFCC units {errors[1]}, chance 50 %"


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
