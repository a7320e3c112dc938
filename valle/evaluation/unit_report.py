"""What units tell: ABX within and across speakers, purity, a speaker probe, bits; each beside its controls, with intervals.

ABX and purity need phone times, which are taken from the manifest: where it has none (LibriSpeech, until ``bin/align_phones.py``
has found them), both are left out with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from valle.evaluation.unit_corpus import Context, EncodedCorpus, Span, UnitReportError
from valle.inference.listening_page import PageTable
from valle.measures.abx import AbxScore, PhoneItem, Triple, abx_error, abx_triples, abx_unit_error, every_triple, permuted_phones
from valle.measures.probe import speaker_probe, unit_histograms
from valle.measures.purity import joint_counts, purity, purity_interval
from valle.measures.tokens import bigram_nll, entropy, perplexity, repeated_share, token_counts, unigram_nll
from valle.tokenizers.base import TokenizerIdentity

DEFINITIONS = {
    "abx": "share of errors 0 to 1, lower is better, 0.5 is chance; phones between the same neighbours (abx_context same) or any; angle of "
    "frames, dynamic time warping; mean over neighbours, then speakers, then pairs of phones (as fastabx collapses), with the bootstrap "
    "interval over pairs; flat: over all cells of a pair at once; units: frames as their centroids",
    "permuted": "the same measure with phones (ABX), units (purity) or speakers (probe) shuffled: the score of chance",
    "pnmi": "share of the phones' entropy that units tell, over frames within phones; interval by the bootstrap over utterances",
    "speaker_probe": "accuracy of a linear classifier on histograms of units, on chapters or recordings that it was not fitted on",
    "bits_per_second": "of units under their own frequencies (unigram) and given the one before (bigram), fitted on the other half",
}
COLLAPSED = "neighbours, speakers, pairs of phones"  # in which order ABX errors are averaged
MOST_TRIPLES = 2_000_000  # where all are asked for
NO_PHONES = "the manifest has no phone times; bin/align_phones.py finds those of transcripts"


def unit_report(
    identity: TokenizerIdentity,
    corpus: EncodedCorpus,
    *,
    span: Span = "phone",
    context: Context = "same",
    num_triples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every measure that the corpus allows, as plain values."""
    if not corpus.cuts:
        raise UnitReportError("expected cuts to score units on, found none; name another manifest")
    return {
        "tokenizer": str(identity),
        "identity": identity.to_dict(),
        "num_units": corpus.num_units,
        "rate_hz": 1 / corpus.step,
        "left_context_seconds": identity.left_context / identity.sample_rate,
        "right_context_seconds": identity.right_context / identity.sample_rate,
        "utterances": len(corpus.cuts),
        "seconds": float(sum(cut.duration for cut in corpus.cuts)),
        "definitions": DEFINITIONS,
        "abx_span": span,
        "abx_context": context,
        "abx_mean": COLLAPSED,
        "min_confidence": corpus.min_confidence,
        "abx": {"across": abx(corpus, span, context, across=True, num_triples=num_triples, seed=seed),
                "within": abx(corpus, span, context, across=False, num_triples=num_triples, seed=seed)},
        "purity": purity_of(corpus, seed=seed),
        "speaker_probe": _probe(corpus, seed),
        **statistics(corpus),
    }  # fmt: skip


def abx(corpus: EncodedCorpus, span: Span, context: Context, *, across: bool, num_triples: int, seed: int) -> dict[str, Any]:
    """Errors of units and of features, and the same with phones permuted; of ``num_triples`` triples, or of all if it is 0."""
    items = corpus.items(span, context)
    if not items:
        return {"left_out": NO_PHONES}
    triples = _triples(items, across, num_triples, seed)
    if not triples:
        between = " between the same neighbours" if context == "same" else ""
        return {"left_out": f"no phone is said{between} by {'two speakers' if across else 'one speaker twice'}"}
    units = np.concatenate(corpus.units)
    dealt = permuted_phones(items, seed=seed)
    result: dict[str, Any] = {}
    for name, named, chosen in (("", items, triples), ("permuted_", dealt, _triples(dealt, across, num_triples, seed))):
        nothing, by_context = {"left_out": "no triples"}, context == "same"
        result[f"{name}units"] = (
            _plain(abx_unit_error(named, chosen, units, corpus.centroids, by_context=by_context)) if chosen else nothing
        )
        if corpus.features is not None:
            result[f"{name}features"] = _plain(abx_error(named, chosen, corpus.features, by_context=by_context)) if chosen else nothing
    return result


def _triples(items: Sequence[PhoneItem], across: bool, count: int, seed: int) -> list[Triple]:
    if count:
        return abx_triples(items, across=across, most=count, seed=seed)
    try:
        return every_triple(items, across=across, most=MOST_TRIPLES)
    except ValueError:
        raise UnitReportError(
            f"expected at most {MOST_TRIPLES} ABX triples where all are asked for (--num-triples 0), found more; "
            "give --num-triples, or fewer --max-minutes"
        ) from None


def _plain(score: AbxScore) -> dict[str, Any]:
    return {**score.error.to_dict(), "flat": score.flat.to_dict(), "triples": score.num_triples, "cells": score.num_cells}


def purity_of(corpus: EncodedCorpus, *, seed: int = 0) -> dict[str, Any]:
    """PNMI with its interval, phone and cluster purity, and the same with units permuted."""
    labels, names = corpus.phone_frames()
    if not names:
        return {"left_out": NO_PHONES}
    sizes = {"num_phones": len(names), "num_units": corpus.num_units}
    joints = np.stack([joint_counts(row[row >= 0], units[row >= 0], **sizes) for row, units in zip(labels, corpus.units, strict=True)])
    low, high = purity_interval(joints, seed=seed)
    phones, units = np.concatenate(labels), np.concatenate(corpus.units)
    some = phones >= 0
    dealt = purity(joint_counts(phones[some], np.random.default_rng(seed).permutation(units[some]), **sizes))
    return {**asdict(purity(joints.sum(0))), "low": low, "high": high, "frames": int(some.sum()), "permuted": asdict(dealt)}


def _probe(corpus: EncodedCorpus, seed: int) -> dict[str, Any]:
    named = [index for index, speaker in enumerate(corpus.speakers) if speaker]
    if not named:
        return {"left_out": "the manifest names no speakers"}
    histograms = unit_histograms([corpus.units[index] for index in named], corpus.num_units)
    speakers, sessions = ([every[index] for index in named] for every in (corpus.speakers, corpus.sessions))
    score = speaker_probe(histograms, speakers, sessions, seed=seed)
    if score is None:
        return {"left_out": "fewer than two speakers have two chapters or recordings, and within one the room tells the speaker too"}
    return {
        "split": "chapters or recordings",
        "accuracy": score.accuracy.to_dict(),
        "permuted": score.permuted.to_dict(),
        "chance": score.chance,
        "speakers": score.num_speakers,
    }


def statistics(corpus: EncodedCorpus) -> dict[str, Any]:
    """Perplexity, entropy, repeats and bits of the units alone, which need neither phones nor speakers."""
    counts = token_counts(corpus.units, corpus.num_units)
    one, other = corpus.units[::2], corpus.units[1::2]
    per_second = 1 / (np.log(2) * corpus.step)
    fit, test = token_counts(one, corpus.num_units), token_counts(other, corpus.num_units)
    return {
        "perplexity": perplexity(counts),
        "entropy_nats": entropy(counts),
        "repeated_share": float(np.mean([repeated_share(units) for units in corpus.units])),
        "bits_per_second": {
            "unigram": unigram_nll(fit, test) * per_second,
            "bigram": bigram_nll(one, other, corpus.num_units) * per_second,
        },
    }


def unit_table(title: str, reports: Sequence[dict[str, Any]]) -> PageTable:
    """A row a tokenizer; ABX errors in percent."""
    columns = ("units", "K", "Hz", "ABX across, units", "features", "permuted", "ABX within, units", "PNMI", "speaker (chance)", "bits/s")
    rows = []
    for report in reports:
        across, within, told = report["abx"]["across"], report["abx"]["within"], report["purity"]
        rows.append((
            report["tokenizer"], str(report["num_units"]), f"{report['rate_hz']:g}",
            _percent(across, "units"), _percent(across, "features"), _percent(across, "permuted_units"), _percent(within, "units"),
            "-" if "left_out" in told else f"{told['pnmi']:.3f} ({told['low']:.3f} to {told['high']:.3f})",
            _speaker(report["speaker_probe"]), f"{report['bits_per_second']['bigram']:.0f}",
        ))  # fmt: skip
    first = reports[0]
    size = f"{first['utterances']} utterances, {first['seconds'] / 60:.1f} minutes"
    least = first["min_confidence"]
    sure = f", of phones found with a confidence of {least:g} or more" if least else ""
    places = "any" if first["abx_context"] == "any" else "the same"
    mean = "" if "abx_mean" in first else ", flat mean over cells"  # of reports from before neighbours and speakers were collapsed
    note = f"{size}; ABX errors in percent with 95 % intervals over pairs of phones, between {places} neighbours{sure}{mean}."
    parts = [part for report in reports for part in (*report["abx"].values(), report["purity"], report["speaker_probe"])]
    reasons = sorted({part["left_out"] for part in parts if "left_out" in part})
    return PageTable(title, columns, rows, note=" ".join([note, *(f"Left out: {reason}." for reason in reasons)]))


def choice_table(tried: Sequence[dict[str, Any]]) -> PageTable:
    """A row a layer and number of units, on dev."""
    rows = [
        (str(row["layer"]), str(row["num_units"]), "yes" if row.get("standardised", True) else "no",
         _percent(row["abx_across"], "units"), _percent(row["abx_across"], "features"), "chosen" if row.get("chosen") else "")
        for row in tried
    ]  # fmt: skip
    columns = ("layer", "K", "standardised", "ABX across, units", "features", "")
    return PageTable("Choice on dev", columns, rows, note="ABX errors in percent.")


def _percent(scores: dict[str, Any], name: str) -> str:
    if name not in scores or "mean" not in scores[name]:
        return "-"
    return "{mean:.1f} ({low:.1f} to {high:.1f})".format(**{key: 100 * scores[name][key] for key in ("mean", "low", "high")})


def _speaker(probe: dict[str, Any]) -> str:
    return "-" if "left_out" in probe else f"{100 * probe['accuracy']['mean']:.0f} % ({100 * probe['chance']:.0f} %)"
