#!/usr/bin/env python3
"""What units tell of phones and of voices, beside MFCC units that were fitted on the same real speech.

  python -m benchmarks.sound_units --control exp/mfcc-real/units --units valle-hubert exp/refit-200/units \\
    --pocketsphinx egs/librispeech/data/aligned-pocketsphinx/cuts.jsonl.gz --aligner egs/librispeech/data/aligned/cuts.jsonl.gz \\
    --synthetic egs/espeak/data/manifests/cuts_test.jsonl.gz --synthetic-control exp/mfcc50/units \\
    --voices voices=egs/folder/data/manifests/cuts_train.jsonl.gz

Real speech is scored twice, by the phone times of a public recogniser and by those of the project's aligner (bin/align_phones.py).  How
much less than the control units err is given with an interval over pairs of phones, the same pairs for both.  The speaker probe hears
corpora in which it can tell: several recordings of each voice, in which no room gives the voice away.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, header, write_results
from benchmarks.tokenizers import short_name
from valle.config import parse_flags
from valle.errors import UserError, run_program
from valle.evaluation.unit_corpus import Context, EncodedCorpus, choose_cuts, encode_cuts
from valle.evaluation.unit_report import COLLAPSED, DEFINITIONS, purity_of, statistics
from valle.measures.abx import AbxScore, abx_error, abx_triples, abx_unit_error, permuted_phones
from valle.measures.intervals import Estimate, bootstrap, ratio
from valle.measures.probe import speaker_probe, unit_histograms
from valle.tokenizers.base import SemanticTokenizer
from valle.tokenizers.registry import BUNDLED_SEMANTIC, load_semantic

LEAST_REAL, LEAST_SYNTHETIC = 0.15, 0.5  # shares by which units should err less than their control
REAL = "LibriSpeech test-other"
CORPORA = {
    "pocketsphinx": f"{REAL}, PocketSphinx's labels",
    "aligner": f"{REAL}, the aligner's labels",
    "synthetic": "unseen eSpeak voices",
}


@dataclass(frozen=True, kw_only=True)
class SoundUnitsOptions:
    """Which units, on which phones, beside which control."""

    control: str = field(metadata={"help": "units that the others are compared with: MFCC units that were fitted on real speech"})
    units: list[str] = field(default_factory=lambda: [BUNDLED_SEMANTIC], metadata={"help": "names or folders; goals are of the first"})
    pocketsphinx: Path | None = field(default=None, metadata={"help": "real cuts with PocketSphinx's phone times"})
    aligner: Path | None = field(default=None, metadata={"help": "the same cuts with the aligner's phone times"})
    synthetic: Path | None = field(default=None, metadata={"help": "synthetic cuts with phone times, of whose voices train lacks some"})
    synthetic_control: str = field(default="mfcc-kmeans", metadata={"help": "the control on synthetic speech"})
    voices: list[str] = field(default_factory=list, metadata={"help": "TITLE=MANIFEST of cuts by several voices, for the speaker probe"})
    num_triples: int = field(default=20_000, metadata={"help": "ABX triples of a corpus"})
    max_minutes: float = field(default=20.0, metadata={"help": "minutes of a corpus"})
    output: Path = field(default=RESULTS / "sound_units.json", metadata={"help": "where the figures go"})

    @property
    def manifests(self) -> dict[str, Path]:
        paths = {"pocketsphinx": self.pocketsphinx, "aligner": self.aligner, "synthetic": self.synthetic}
        return {name: path for name, path in paths.items() if path is not None}


def bench_sound_units(options: SoundUnitsOptions, command: Sequence[str]) -> Path:
    """Write the figures; returns where they are."""
    if not options.manifests and not options.voices:
        raise UserError("expected phones to score units on, found none; give --pocketsphinx, --aligner, --synthetic or --voices")
    started = header(command)
    corpora = {name: corpus_rows(name, path, options) for name, path in options.manifests.items()}
    probes = {title: probe_rows(Path(path), options) for title, _, path in (voices.partition("=") for voices in options.voices)}
    write_results(options.output, {
        **started, "control": short_name(options.control), "definitions": DEFINITIONS, "abx_mean": COLLAPSED,
        "corpora": corpora, "speaker_probe": probes, "units": goals(corpora, short_name(options.units[0])),
    })  # fmt: skip
    return options.output


def corpus_rows(name: str, manifest: Path, options: SoundUnitsOptions) -> dict[str, Any]:
    """All units on one corpus, and how much less than the control each errs."""
    is_synthetic = name == "synthetic"
    cuts = choose_cuts(manifest, max_seconds=60 * options.max_minutes, unseen_voices=is_synthetic)
    context: Context = "same" if is_synthetic else "any"
    control: AbxScore | None = None
    rows = []
    for units in dict.fromkeys([options.synthetic_control if is_synthetic else options.control, *options.units]):
        tokenizer = load_semantic(units)
        encoded = encode_cuts(tokenizer, cuts)
        scores = across_speakers(encoded, context, options.num_triples)
        control = control or scores["units"]
        rows.append({"name": short_name(units), **_told(tokenizer, encoded, scores), "less_than_control": less(scores["units"], control)})
        print(f"{rows[-1]['name']} on {name}: {scores['units'].error}, flat {scores['units'].flat}", flush=True)
    return {"title": CORPORA[name], "cuts": len(cuts), "minutes": sum(cut.duration for cut in cuts) / 60, "context": context, "rows": rows}


def across_speakers(corpus: EncodedCorpus, context: Context, num_triples: int) -> dict[str, AbxScore]:
    """ABX across speakers of units and features, and of units with phones permuted; the same triples for all tokenizers."""
    items, units = corpus.items("phone", context), np.concatenate(corpus.units)
    if not items:
        raise UserError("expected cuts with phone times, found none; bin/align_phones.py finds those of transcripts")
    triples = abx_triples(items, across=True, most=num_triples)
    by_context = context == "same"
    scores = {"units": abx_unit_error(items, triples, units, corpus.centroids, by_context=by_context)}
    if corpus.features is not None:
        scores["features"] = abx_error(items, triples, corpus.features, by_context=by_context)
    dealt = permuted_phones(items)
    chosen = abx_triples(dealt, across=True, most=num_triples)
    return scores | {"permuted": abx_unit_error(dealt, chosen, units, corpus.centroids, by_context=by_context)}


def less(score: AbxScore, control: AbxScore) -> dict[str, dict[str, float | int]]:
    """1 - error / control's error, by the paired bootstrap over pairs of phones."""

    def share(own: Estimate, other: Estimate) -> dict[str, float | int]:
        assert own.items is not None and other.items is not None
        parts, wholes = own.items.parts, other.items.parts
        return bootstrap(lambda drawn: 1 - ratio(parts, wholes, drawn), len(parts)).to_dict()

    return {"collapsed": share(score.error, control.error), "flat": share(score.flat, control.flat)}


def probe_rows(manifest: Path, options: SoundUnitsOptions) -> dict[str, Any]:
    """How often the probe names the voice, and by what its recordings are split."""
    cuts = choose_cuts(manifest, max_seconds=60 * options.max_minutes, unseen_voices=False)
    rows = []
    for units in dict.fromkeys([options.control, *options.units]):
        tokenizer = load_semantic(units)
        encoded = encode_cuts(tokenizer, cuts, with_features=False)
        score = speaker_probe(unit_histograms(encoded.units, encoded.num_units), encoded.speakers, encoded.sessions)
        if score is None:
            return {"cuts": len(cuts), "left_out": "fewer than two voices have two recordings or chapters"}
        rows.append({"name": short_name(units), "accuracy": score.accuracy.to_dict(), "permuted": score.permuted.to_dict(),
                     "chance": score.chance, "voices": score.num_speakers})  # fmt: skip
    return {"cuts": len(cuts), "rows": rows}


def goals(corpora: dict[str, Any], first: str) -> dict[str, Any]:
    """What is asked for of the first units, by ABX errors as fastabx collapses them."""
    asked = {"pocketsphinx": LEAST_REAL, "synthetic": LEAST_SYNTHETIC}
    found = {}
    for name, least in asked.items():
        row = next((row for row in corpora.get(name, {"rows": []})["rows"] if row["name"] == first), None)
        if row is not None:
            value = row["less_than_control"]["collapsed"]["mean"]
            found[name] = {"value": round(value, 4), "goal": f"at least {least:g}", "met": value >= least}
    return found


def _told(tokenizer: SemanticTokenizer, corpus: EncodedCorpus, scores: dict[str, AbxScore]) -> dict[str, Any]:
    """Errors, PNMI, bits and how many of the units occur."""
    purity, told = purity_of(corpus), statistics(corpus)
    abx = {
        name: {"collapsed": score.error.to_dict(), "flat": score.flat.to_dict(), "triples": score.num_triples}
        for name, score in scores.items()
    }
    return {
        "num_units": tokenizer.num_units, "rate_hz": 1 / corpus.step, "abx": abx,
        "pnmi": {name: purity[name] for name in ("pnmi", "low", "high")}, "pnmi_permuted": purity["permuted"]["pnmi"],
        "perplexity": told["perplexity"], "bits_per_second": told["bits_per_second"],
        "in_use": len(np.unique(np.concatenate(corpus.units))),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else list(arguments)
    torch.set_num_threads(1)
    options = parse_flags(SoundUnitsOptions, words, usage=__doc__ or "")
    print(f"written: {bench_sound_units(options, ['python -m benchmarks.sound_units', *words])}")


if __name__ == "__main__":
    run_program(main)
