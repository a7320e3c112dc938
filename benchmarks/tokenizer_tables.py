"""The tables of benchmarks.tokenizers: codecs beside Opus, units beside their controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.tables import Results, command_block, markdown, page_table, percent, where, with_interval
from valle.evaluation.unit_report import unit_table

TABLE = "tokenizers"  # the file that has all that runs here
ABOVE = "the command above"


def command(part: str, source: str = TABLE) -> Callable[[Results], str | None]:
    """The command of the run that measured the codecs, or the units, of a file of results."""

    def block(results: Results) -> str | None:
        run = results.get(source, {"runs": {}})["runs"].get(part)
        return command_block(run) if run else None

    return block


def codecs(corpus: str, source: str = TABLE, only: Sequence[str] = (), told: str = ABOVE) -> Callable[[Results], str | None]:
    """Every codec on one corpus, by number of codebooks, or those named and Opus; ``told`` says where the command stands."""

    def block(results: Results) -> str | None:
        values = results.get(source, {})
        if corpus not in values.get("corpora", {}):
            return None
        measures = [(name, digits) for name, digits in (("stoi", 3), ("pesq", 2), ("mel_l1", 2), ("si_sdr", 1))
                    if f"{name}_{corpus}" in values["codecs"][0]]  # fmt: skip
        rows = [
            (
                f"{row['name']}, {row['n_codebooks']}" if row["n_codebooks"] else row["name"].replace("identity", "the recording itself"),
                "" if row["kbps"] is None else f"{row['kbps']:.1f}",
                *(with_interval(row, f"{name}_{corpus}", digits) for name, digits in measures),
                "" if "codebook_perplexity" not in row else f"{row['codebook_perplexity'][-1]:.0f}",
                *("" if row[name] is None else f"{row[name]:.4f}" for name in ("rtf_encode", "rtf_decode")),
            )
            for row in values["codecs"]
            if f"stoi_{corpus}" in row and (not only or row["name"] in only or not row["n_codebooks"])
        ]  # fmt: skip
        heads = {"stoi": "STOI", "pesq": "PESQ", "mel_l1": "mel L1", "si_sdr": "SI-SDR"}
        columns = ("codec, codebooks", "kbit/s", *(heads[name] for name, _ in measures), "perplexity", "encode", "decode")
        size = values["corpora"][corpus]
        heard = f"{size['recordings']} recordings, {size['minutes']:.1f} minutes"
        note = f"{heard}; means with 95 % intervals over recordings. {where(values['runs']['codecs'], told)}"
        return markdown(columns, rows, note)

    return block


def limits(values: Mapping[str, Any]) -> str:
    """What a codec keeps by its codes, and would keep with better parts."""
    rows = [
        (name, system, *(f"{of[measure]['mean']:.{digits}f}" if measure in of else "" for measure, digits in (("stoi", 3), ("pesq", 2))))
        for name, systems in values["codecs"].items() for system, of in systems.items()
    ]  # fmt: skip
    return markdown(("codec", "sound made of", "STOI", "PESQ"), rows, f"Means over {values['recordings']} recordings. {where(values)}")


def units(corpus: str) -> Callable[[Results], str | None]:
    """Every tokenizer of units on one corpus."""

    def block(results: Results) -> str | None:
        rows = [row for row in results.get(TABLE, {}).get("units", []) if row["corpus"] == corpus]
        if not rows:
            return None
        cells = [
            (
                f"{row['name']}, {row['num_units']} at {row['rate_hz']:g} Hz",
                *(percent(row[name]) for name in ("abx_across", "abx_within", "abx_across_features")),
                "" if row["pnmi"] is None else f"{row['pnmi']:.3f}",
                percent(row["speaker_probe"]),
                f"{row['perplexity']:.0f}",
                " / ".join(
                    f"{row['bits_per_second'][model]:.0f}" for model in ("unigram", "bigram", "small_lm") if model in row["bits_per_second"]
                ),
            )
            for row in rows
        ]
        controls = rows[0]["controls"]
        permuted = ("abx_across_permuted", "abx_within_permuted", "pnmi_permuted", "speaker_probe_permuted")
        across, within, pnmi, speaker = (controls[name] for name in permuted)
        cells.append((
            "control of the first: labels permuted", percent(across), percent(within), "", "" if pnmi is None else f"{pnmi:.3f}",
            percent(speaker), "", "",
        ))  # fmt: skip
        columns = ("units", "ABX across, %", "within, %", "features across, %", "PNMI", "speaker, %", "perplexity", "bits/s")
        least = rows[0]["min_confidence"]
        sure = f" Only phones found with a confidence of {least:g} or more." if least else ""
        mean = averaged(rows[0]["abx_across"])
        if corpus != "synthetic" and "speaker_split" not in rows[0]:
            sure += " Each speaker reads one chapter, whose room tells the probe who it is: that column says nothing of the units."
        note = f"{rows[0]['minutes']:.1f} minutes; means with 95 % intervals{mean}.{sure} {where(results[TABLE]['runs']['units'], ABOVE)}"
        return markdown(columns, cells, note)

    return block


def across_speakers(only: Sequence[str], source: str = TABLE, told: str = ABOVE) -> Callable[[Results], str | None]:
    """ABX errors of units across speakers, of the named tokenizers in that order, a column a corpus."""

    def block(results: Results) -> str | None:
        found = {(row["name"], row["corpus"]): row for row in results.get(source, {}).get("units", [])}
        corpora = {"synthetic": "synthetic, unseen voices", "real": "real, all phones", "real_confident": "real, confident phones"}
        if any((name, corpus) not in found for name in only for corpus in corpora):
            return None
        rows = [(name, *(percent(found[name, corpus]["abx_across"]) for corpus in corpora)) for name in only]
        mean = averaged(found[only[0], "real"]["abx_across"])
        return markdown(
            ("ABX across, %", *corpora.values()), rows, f"95 % intervals{mean}. {where(results[source]['runs']['units'], told)}"
        )

    return block


def reports(values: Mapping[str, Any]) -> str:
    """What ``bin/evaluate_units.py`` says of tokenizers on one manifest, by the tokenizers' names."""
    named = [{**report, "tokenizer": report["identity"]["name"]} for report in values["reports"]]
    return page_table(unit_table(values["title"], named))


def unit_choice(values: Mapping[str, Any]) -> str:
    """ABX on dev of every layer, number of units and way to cluster, as ``bin/evaluate_units.py`` tried them."""
    cells = {(row["layer"], row["num_units"], row["standardised"]): percent(row["abx_across"]["units"]) for row in values["choice"]}
    layers, sizes = (sorted({key[place] for key in cells}) for place in (0, 1))
    kinds = [(size, standardised) for size in sizes for standardised in (True, False)]
    heads = [f"{size}, {'standardised' if standardised else 'as they are'}" for size, standardised in kinds]
    rows = [(str(layer), *(cells.get((layer, *kind), "") for kind in kinds)) for layer in layers]
    mean = averaged(values["choice"][0]["abx_across"]["units"])
    return markdown(("layer", *heads), rows, f"ABX errors of units across speakers on dev, in %, with 95 % intervals{mean}.")


def averaged(score: Mapping[str, Any]) -> str:
    """What is to be said of an ABX error that was measured before neighbours and speakers were collapsed one after the other."""
    return "" if "flat" in score else ", ABX by the flat mean over cells"


def curves(values: Mapping[str, Any]) -> str:
    """Where runs begin and end."""
    rows = [
        (
            row["name"], f"{row['minutes']:g}", f"{row['steps']:,}", *(f"{value:.2f}" for value in row["train"]),
            f"{row['dev'][-1]:.2f}" if row["dev"] else "", "" if not row["dev_accuracy"] else f"{100 * row['dev_accuracy']:.0f} %",
        )
        for row in values["runs"]
    ]  # fmt: skip
    columns = ("run", "minutes", "steps", "train, first", "train, last", "dev, last", "dev, right")
    return markdown(columns, rows, f"Losses in {values['unit']}. {where(values)}")
