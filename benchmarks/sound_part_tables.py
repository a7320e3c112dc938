"""The tables of benchmarks.sound_codec and benchmarks.sound_units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import estimate, interval, markdown, percent, where

DIGITS = {"stoi": 3, "pesq": 2, "mel_l1": 2}
KINDS = ("units", "features", "permuted")


def sound_codec(values: Mapping[str, Any]) -> str:
    """A row a codec and number of codebooks, after the recording itself."""
    rows: list[Sequence[str]] = [(values["original"]["name"], "", "", "", "", percent(values["original"].get("word_error")), "")]
    for row in values["rows"]:
        told = (estimate(row["measures"][name], digits) if name in row["measures"] else "" for name, digits in DIGITS.items())
        times = estimate(row["times_original"], 2) if "times_original" in row else ""
        rows.append((f"{row['name']}, {row['codebooks']}", f"{row['kbps']:.1f}", *told, percent(row.get("word_error")), times))
    columns = ("codec, codebooks", "kbit/s", "STOI", "PESQ", "mel L1", "word error, %", "times the recording's")
    heard = f"{values['title']}, {values['utterances']} utterances, {values['minutes']:.1f} minutes"
    note = f"{heard}; means with 95 % intervals over utterances, words by {values['recogniser'] or 'nobody'}. "
    return markdown(columns, rows, note + where(values))


def stage_losses(values: Mapping[str, Any]) -> str:
    """From the recording to what is generated whole, a row each."""
    rows = [
        (row["name"], interval(row["words_in_lexicon"]), estimate(row["lexicon_words_per_second"], 2), estimate(row["voice_cosine"], 2))
        for row in values["rows"]
    ]
    columns = ("what is heard", "heard words in the lexicon", "such words a second", "cosine to the prompt's voice")
    judges = f"Recogniser {values['recogniser']}, speaker encoder {values['speaker_encoder']}. "
    return markdown(columns, rows, f"{values['recordings']} recordings, from 3 to 10 s of each. {judges}{where(values)}")


def sound_units(values: Mapping[str, Any]) -> str:
    """Of every corpus each tokenizer a row, beside the control."""
    rows = []
    for corpus in values["corpora"].values():
        for row in corpus["rows"]:
            errors = (percent(row["abx"].get(kind, {}).get("collapsed")) for kind in KINDS)
            less = (percent(row["less_than_control"][mean]) for mean in ("collapsed", "flat"))
            bits = " / ".join(f"{row['bits_per_second'][model]:.0f}" for model in ("unigram", "bigram"))
            rows.append((
                f"{corpus['title']}: {row['name']}, {row['num_units']} at {row['rate_hz']:g} Hz", *errors, *less,
                f"{row['pnmi']['pnmi']:.3f}", f"{row['in_use']}", bits,
            ))  # fmt: skip
    columns = (
        "units",
        "ABX across, %",
        "features, %",
        "permuted, %",
        "less than the control, %",
        "by flat means, %",
        "PNMI",
        "in use",
        "bits/s",
    )
    sizes = ", ".join(f"{corpus['title']} {corpus['cuts']} cuts, {corpus['minutes']:.1f} minutes" for corpus in values["corpora"].values())
    note = f"{sizes}. 95 % intervals over pairs of phones. The first row of each corpus is its control. "
    return markdown(columns, rows, note + where(values))


def sound_speakers(values: Mapping[str, Any]) -> str:
    """What the probe says of voices, corpus by corpus."""
    rows = []
    for title, corpus in values["speaker_probe"].items():
        if "left_out" in corpus:
            rows.append((title, f"not measured: {corpus['left_out']}", "", "", ""))
        for row in corpus.get("rows", ()):
            rows.append((f"{title}: {row['name']}", percent(row["accuracy"]), percent(row["permuted"]), f"{100 * row['chance']:.1f}",
                         str(row["voices"])))  # fmt: skip
    return markdown(
        ("units", "voice named, %", "voices permuted, %", "chance, %", "voices"), rows, "95 % intervals over recordings. " + where(values)
    )
