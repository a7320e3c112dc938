"""The tables about units, phone times, voices and synthesisers as documents show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import Results, interval, markdown, percent, where


def unit_sequences(values: Mapping[str, Any]) -> str:
    """Every unit sequence a row: how many tokens, and how many bits."""
    names = {"frames": "`frames`", "runs": "`runs`", "bpe": f"`bpe`, {values['vocab_size']} tokens"}
    rows = [
        (
            names[name], f"{row['tokens_per_second']:.1f}", f"{row['bits_per_second']:.1f}",
            f"{row['duration_bits_per_second']:.1f}" if "duration_bits_per_second" in row else "",
            f"{row['unigram_bits_per_second']:.1f}", str(row["steps"]),
        )
        for name, row in values["sequences"].items()
    ]  # fmt: skip
    about = f"{values['num_units']} units of {values['tokenizer']} at {values['unit_rate']:g} Hz"
    note = f"{about}; {values['minutes_each']:g} minutes of one thread each. {where(values)}"
    return markdown(("unit sequence", "tokens/s", "bits/s", "durations' share", "unigram", "steps"), rows, note)


def window_context(results: Results) -> str | None:
    """The share of units that windows leave as they are, by context and encoder."""
    if "window_context" not in results:
        return None
    values = results["window_context"]
    names = {"bounded": "bounded attention", "bounded, lifted": "the same encoder, bounds lifted", "unbounded": "trained without bounds"}
    columns = [f"{names[encoder['attention']]} ({encoder['steps']} steps), %" for encoder in values["encoders"]]
    contexts = zip(*(encoder["contexts"] for encoder in values["encoders"]), strict=True)
    rows = [
        (f"{row[0]['left_seconds']:g} s before, {row[0]['right_seconds']:g} s after", *(f"{100 * cell['same']:.2f}" for cell in row))
        for row in contexts
    ]
    note = f"{values['num_clips']} clips of {values['clip_seconds']:g} s, {values['num_units']} units of layer {values['layer']}, "
    return markdown(("context of a window", *columns), rows, f"{note}windows of {values['window_seconds']:g} s. {where(values)}")


def alignment(results: Results) -> str | None:
    """Phone times against exact ones, and on recordings against controls, a row a round."""
    if "alignment" not in results:
        return None
    values = results["alignment"]
    last = values["rounds"][-1]
    exact, found = last["timed"], last["recordings"]
    named = [(_round(row), row["timed"]["aligned"]) for row in values["rounds"]]
    named += [("control: spread by phones' mean durations", exact["mean_durations"]), ("control: spread evenly", exact["even"])]
    named += [("words, from the text alone", exact["words"])] if "median_ms" in exact["words"] else []
    timed = [
        (name, f"{row['median_ms']:.0f}", f"{row['p90_ms']:.0f}", percent(row["within_20_ms"]), percent(row.get("frames")))
        for name, row in named
    ]
    real = [
        (
            _round(row), percent(row["recordings"]["own_better"]),
            f"{row['recordings']['score_own']['mean']:.2f} ({row['recordings']['lowest_own']:.2f})",
            f"{row['recordings']['score_other']['mean']:.2f} ({row['recordings']['highest_other']:.2f})",
            *(f"{row['recordings']['pnmi'][name]['pnmi']:.3f}" for name in ("aligned", "other_text", "mean_durations", "even")),
            percent(row["recordings"].get("moved_since_the_round_before", {}).get("within_20_ms")),
        )
        for row in values["rounds"]
    ]  # fmt: skip
    first = ("synthetic voices", "median, ms", "90th percentile, ms", "within 20 ms, %", "frames right, %")
    second = (
        "recordings", "own text fits better, %", "nats per frame (lowest)", "other text (highest)", "PNMI", "other text", "mean durations",
        "even", "begins within 20 ms of the round before, %",
    )  # fmt: skip
    sizes = f"{exact['utterances']} utterances by {exact['voices']} unheard voices, {exact['minutes']:.1f} minutes."
    about = f"{values['title']}: {found['utterances']} utterances, {found['minutes']:.1f} minutes. {where(values)}"
    return f"{markdown(first, timed, sizes)}\n{markdown(second, real, about)}"


def _round(row: Mapping[str, Any]) -> str:
    return f"round {row['round']}" if row["round"] else "synthetic speech alone"


def synthesisers(values: Mapping[str, Any]) -> str:
    """What a recogniser hears of each synthesiser, and how well a judge tells its voices apart."""
    rows = []
    for name, row in values["synthesisers"].items():
        heard = (percent(found["word_error"]) for found in row["heard"].values())
        apart = row.get("voices", {})
        judged = (interval(apart[kind]) if apart else "" for kind in ("whole", "pitch, formants and tempo"))
        known = f"{100 * row['heard']['voices']['in_lexicon']['mean']:.0f} %"
        rows.append((f"`{name}`", *heard, known, *judged))
    columns = (
        "", "word error, base voices, %", "the recipe's voices, %", "after the codec, %", "heard words in the lexicon", "voices told apart",
        "by pitch, formants and tempo alone",
    )  # fmt: skip
    note = f"{values['recogniser']}, {values['sentences']} sentences each; codec {values['codec']}; 16 voices, chance 6 %. "
    return markdown(columns, rows, note + where(values))


def levels(values: Mapping[str, Any]) -> str:
    """Continuations of prompts at several levels: how loud they are, and how much of the prompt was heard as before."""

    def loudness(found: Mapping[str, Any]) -> tuple[str, str]:
        return f"{found['median']:+.1f} dB ({found['least']:+.1f} to {found['most']:+.1f})", f"{100 * found['within_3_db']:.0f} %"

    rows = []
    for row in values["rows"]:
        name = f"{row['factor_db']:g} dB, {row['samples']}" + ("" if row["level"] == "speech" else ", `--level none`")
        tokens = (f"{100 * row[stream]:.1f} %" for stream in ("units", "codes"))
        rows.append((name, *loudness(row["difference_db"]), *tokens, interval(row["voice"])))
    rows.append(("what was really said next", *loudness(values["real"]["difference_db"]), "", "", ""))
    columns = ("prompt", "continuation less prompt", "within 3 dB", "units unchanged", "level-0 codes unchanged", "prompt's voice kept")
    note = f"{values['num_prompts']} prompts of {values['num_voices']} voices, one continuation of each. "
    return markdown(columns, rows, note + where(values))


def voices_kept(values: Mapping[str, Any]) -> str:
    """Of every corpus each model a row, and what was really said as the bound; the controls are columns."""
    rows = []
    for corpus, models in values["corpora"].items():
        for name, report in models.items():
            controls = (interval(report["round_trip"]), interval(report["shuffled"]))
            rows.append((f"{corpus}: {name}", interval(report["generated"]), *controls, *_heard(report, "generated")))
        report = next(iter(models.values()))
        rows.append((f"{corpus}: real speech", interval(report["real"]), "", "", *_heard(report, "real")))
    columns = ("", "voice kept", "real speech through the codec", "wrong prompt", "silence", "clips")
    return markdown(columns, rows, where(values))


def _heard(report: Mapping[str, Any], which: str) -> tuple[str, str]:
    return f"{100 * report['silence_share'][which]:.0f} %", str(report[which]["count"])
