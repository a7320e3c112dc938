"""The tables of acoustic models as documents show them: quality, cost, SoundStorm's passes, and drafts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.tables import estimate, interval, markdown, text, where

Row = Mapping[str, Any]
CORPORA = {"espeak": "espeak", "librispeech": "LibriSpeech"}  # as a reader knows them


def acoustic_models(values: Mapping[str, Any]) -> str:
    """Every acoustic model on every corpus a row; below it what bounds its figures."""
    heard = any(row.get("wer") for row in values["models"])
    rows = [
        (
            f"`{row['name']}`, {_corpus(row)}", str(row["steps"]), text(row["hours_of_audio_read"]), _nats(row),
            interval(row["voice_kept"]), f"{row['stoi']['mean']:.2f}", *([_words(row)] if heard else []),
        )
        for row in values["models"]
    ]  # fmt: skip
    columns = ["model, corpus", "steps", "hours read", "nats per second of codes", "voice kept", "STOI"]
    columns += ["word errors"] if heard else []
    of_corpus: dict[str, Row] = {}
    for row in values["models"]:
        if row["nats_per_second"]:
            of_corpus.setdefault(_corpus(row), row)
    bounds = " ".join(_bounds(name, row) for name, row in of_corpus.items())
    tuned = f", and {values['tune_minutes']:g} more minutes on the second corpus" if values.get("tune_minutes") else ""
    return markdown(columns, rows, f"{values['minutes_each']:g} minutes of one core each{tuned}. {bounds} {where(values)}")


def _corpus(row: Row) -> str:
    return CORPORA.get(row["corpus"], row["corpus"])


def _nats(row: Row) -> str:
    return "-" if row["nats_per_second"] is None else f"{row['nats_per_second']['valid_nats_per_second']:.0f}"


def _words(row: Row) -> str:
    if not row.get("wer"):
        return "-"
    return f"{interval(row['wer'])}, shuffled units {100 * row['controls']['words']['babble']['wer']['mean']:.0f} %"


def _bounds(name: str, row: Row) -> str:
    controls = row["controls"]
    told = (
        f"Bounds, {name}: {row['nats_per_second']['unigram_nats_per_second']:.0f} nats per second under the unigram; voice kept by real "
        f"speech through the codec {interval(controls['round_trip'])}, with a wrong prompt {interval(controls['shuffled'])}; STOI of the "
        f"codec's round trip {row['stoi_of_round_trip']['mean']:.2f}"
    )
    words = controls.get("words")
    if not words:
        return f"{told}."
    real, through = (f"{100 * words[kind]['wer']['mean']:.0f} %" for kind in ("real", "round_trip"))
    said = f"of the recordings {real}, of the round trip {through}"
    return f"{told}; word errors {said}."


def acoustic_costs(values: Mapping[str, Any]) -> str:
    """Every acoustic model a row: size, seconds for 10 s of sound by either engine, and memory."""
    training = {row["name"]: row["training_memory_mib"] for row in values["models"] if "training_memory_mib" in row}
    rows = [
        (
            f"`{row['name']}`", text(row["parameters"] / 1e6), *(text(row["seconds_for_10s"][engine]) for engine in ("torch", "native")),
            str(row["memory_mib"]), *([str(training.get(row["name"], "-"))] if training else []),
        )
        for row in _one_each(values)
    ]  # fmt: skip
    columns = ["model", "parameters, M", "seconds for 10 s, torch step", "native step", "memory while continuing, MiB"]
    columns += ["while training"] if training else []
    note = "One thread, one prompt, all stages and the codec, the faster of two runs; memory is that of the whole process. "
    return markdown(columns, rows, note + where(values))


def _one_each(values: Mapping[str, Any]) -> Iterator[Row]:
    seen: set[str] = set()
    for row in values["models"]:
        if row["name"] not in seen:
            seen.add(row["name"])
            yield row


def soundstorm_passes(values: Mapping[str, Any]) -> str:
    """Every number of passes on the first level a row; voices where they were judged."""
    controls, first = values["controls"], values["rows"][0]
    rows = [
        (
            str(row["passes"]), str(row["passes_of_all_levels"]), estimate(row["stoi"], 3),
            *([interval(row["voice_kept"])] if controls else []), f"{row['seconds']:.2f}", f"{row['seconds_of_bare_passes']:.2f}",
        )
        for row in values["rows"]
    ]  # fmt: skip
    columns = ["passes on level 0", "passes on all levels", "STOI", *(["voice kept"] if controls else [])]
    columns += ["seconds for 10 s of codes", "as many bare passes of the network"]
    note = f"STOI of {first['stoi']['count']} recordings; of the codec's round trip {first['stoi_of_round_trip']['mean']:.3f}. "
    if controls:
        through, wrong = interval(controls["round_trip"]), interval(controls["shuffled"])
        note += f"Voice kept by real speech through the codec {through}, with a wrong prompt {wrong}. "
    return markdown(columns, rows, note + where(values))


def multi_token(values: Mapping[str, Any]) -> str:
    """Every stage, kind of heads and batch a row; tokens a step and speed-up by the number of drafts."""
    drafts = sorted({row["k"] for row in values["mtp"]})
    groups: dict[tuple[str, str, int, str], dict[int, Row]] = {}
    for row in values["mtp"]:
        groups.setdefault((row["stage"], row["heads"], row["batch"], row["engine"]), {})[row["k"]] = row
    rows = [
        (
            f"`{stage}`, {heads}, {batch} row{'s' if batch > 1 else ''}, {engine} step",
            *(f"{found[k]['accepted']:.2f}, {found[k]['speed_up']:.2f}" for k in drafts),
        )
        for (stage, heads, batch, engine), found in groups.items()
    ]
    columns = ("stage, heads: tokens per step, speed-up", *(f"{k} draft{'s' if k > 1 else ''}" for k in drafts))
    same = min(row["same_rows"] for row in values["mtp"])
    return markdown(columns, rows, f"Rows with the same tokens as without drafts: {100 * same:.0f} % or more. {where(values)}")


def piano_models(values: Mapping[str, Any]) -> str | None:
    """Every acoustic model of the recipe without units a row."""
    if "acoustic_models" not in values:
        return None
    found = values["acoustic_models"]
    rows = [
        (
            f"`{row['name']}`", str(row["steps"]), f"{row['nll_by_level'][0]:.2f} ({row['unigram_by_level'][0]:.2f})",
            "-" if row["nats_per_second"] is None else f"{row['nats_per_second']['valid_nats_per_second']:.0f} "
            f"({row['nats_per_second']['unigram_nats_per_second']:.0f})",
            str(row["continuations"]), text(row["new_seconds"]),
        )
        for row in found["rows"]
    ]  # fmt: skip
    columns = (
        "model", "steps", "nats per code, level 0 (unigram)", "nats per second of codes (unigram)", "continuations",
        "seconds of new audio",
    )  # fmt: skip
    return markdown(columns, rows, f"{found['minutes_each']:g} minute each. {where(found)}")


def storage(values: Mapping[str, Any]) -> str:
    """Every storage of the bundled model's weights a row: nats a token by stage, and voices kept."""
    stages = list(dict.fromkeys(row["stage"] for row in values["rows"]))
    found = {(row["storage"], row["stage"]): row for row in values["rows"]}
    voices = values.get("voices", {})
    rows = [
        (kept, *(_more(found[kept, stage]) for stage in stages), interval(voices[kept]["generated"]) if voices else "-")
        for kept in dict.fromkeys(row["storage"] for row in values["rows"])
    ]
    note = f"{values['recordings']} recordings; differences from float32 are paired, with 95 % intervals. "
    if voices:
        first = voices["float32"]
        note += (
            f"Voice kept of {first['generated']['count']} prompts; real speech through the codec {interval(first['round_trip'])}, "
            f"wrong prompt {interval(first['shuffled'])}. "
        )
    columns = ("weights stored as", *(f"`{stage}`, nats per token" for stage in stages), "voice kept")
    return markdown(columns, rows, note + where(values))


def _more(row: Row) -> str:
    more = row["more_than_float32"]
    return f"{row['nats_per_token']:.3f}" + ("" if more is None else f", {more['mean']:+.4f} ({more['low']:+.4f} to {more['high']:+.4f})")
