#!/usr/bin/env python3
"""Every tokenizer that runs here, on the same audio: codecs beside Opus, units beside their controls.

python -m benchmarks.tokenizers                          the bundled ones, on synthetic speech made for it
python -m benchmarks.tokenizers --codecs valle-convnext exp/soundstream/codec --units mfcc-kmeans exp/hubert-2/units \\
  --real-audio $LIBRISPEECH/test-other --real-manifest aligned.jsonl.gz --manifest data/manifests/cuts_test.jsonl.gz \\
  --lm-manifest data/manifests/cuts_train.jsonl.gz

Folders are named by what holds them: exp/soundstream/codec is soundstream.  A part left out (--codecs or --units without names) stays
in the file as the run before left it, so that the two can be measured at different times.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.aligner_units import aligner_units
from benchmarks.common import RESULTS, figure, header, write_results
from benchmarks.corpus import make_audio
from benchmarks.encode_share import bench_encode_share
from benchmarks.small_lm import STEPS, small_lm_bits
from benchmarks.tokenizing import seconds_of_work
from valle.audio import Waveform
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.evaluation.codec_report import LONGEST_SECONDS, Recording, codec_report
from valle.evaluation.evaluate_codec import choose_files, read_recordings
from valle.evaluation.unit_corpus import Context, EncodedCorpus, choose_cuts, encode_cuts
from valle.evaluation.unit_report import unit_report
from valle.measures.sound import has_pesq
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, BUNDLED_SEMANTIC, load_acoustic, load_semantic

OPUS_KBPS = (6.0, 12.0)
ALIGNER = "aligner"
CONFIDENT = 0.3  # phones that the aligner found with this or more are scored apart: about a quarter of those of read speech
MEASURES = ("stoi", "pesq", "mel_l1", "si_sdr")
RTF_SECONDS, RTF_REPEATS = 10.0, 5


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="*", default=[BUNDLED_ACOUSTIC], help="names or folders; none: units alone")
    parser.add_argument("--units", nargs="*", default=[BUNDLED_SEMANTIC], help="names or folders")
    parser.add_argument("--manifest", type=Path, help="cuts of synthetic speech with phone times; made anew if not given")
    parser.add_argument("--real-audio", type=Path, nargs="*", default=[], help="files or folders of real speech for the codecs")
    parser.add_argument("--real-manifest", type=Path, help="cuts of real speech with phone times for the units (bin/align_phones.py)")
    parser.add_argument("--lm-manifest", type=Path, help="cuts of synthetic speech on whose units a small language model learns")
    parser.add_argument("--lm-real-manifest", type=Path, help="the same for real speech")
    parser.add_argument("--aligner", type=Path, help="the aligner that found the phone times of --real-manifest, to bound its table")
    parser.add_argument("--max-recordings", type=int, default=46, help="recordings of each kind for the codecs")
    parser.add_argument("--max-minutes", type=float, default=20.0, help="minutes of each kind for the units")
    parser.add_argument("--lm-minutes", type=float, default=60.0, help="minutes that the small language models learn on")
    parser.add_argument("--jobs", type=int, default=1, help="processes that score units; times are all taken before")
    parser.add_argument("--fast", action="store_true", help="tiny sizes, for tests")
    parser.add_argument("--output", type=Path, default=RESULTS / "tokenizers.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    run = header(["python -m benchmarks.tokenizers", *(arguments if arguments is not None else sys.argv[1:])])
    results: dict[str, Any] = {"runs": {}}
    with tempfile.TemporaryDirectory() as folder:
        if not options.manifest:
            options.manifest = _made(Path(folder), test_minutes=0.5 if options.fast else 10.0)
            options.lm_manifest = options.manifest.with_name("cuts_train.jsonl.gz")
        if options.codecs:
            results.update(measure_codecs(options))
            results["runs"]["codecs"] = run
        if options.units:
            results["units"] = measure_units(options)
            results["runs"]["units"] = run
    before = _read(options.output) if not (options.codecs and options.units) else {"runs": {}}
    results = {**before, **results, "runs": {**before["runs"], **results["runs"]}}
    write_results(options.output, results)
    print(f"written: {options.output}")


def measure_codecs(options: argparse.Namespace) -> dict[str, Any]:
    """Every codec, Opus, and how much of the bare model's speed tokenising a corpus has."""
    corpora = {"synthetic": _recordings(options.manifest, options.max_recordings)}
    if options.real_audio:
        corpora = {"real": read_recordings(choose_files(options.real_audio, options.max_recordings)), **corpora}
    rows = [row for name in options.codecs for row in codec_rows(name, corpora)] + opus_rows(options.codecs[0], corpora)
    share = bench_encode_share(rate=16000, **({"num_cuts": 6, "repeats": 2} if options.fast else {"num_cuts": 200, "repeats": 5}))
    return {
        "has_pesq": has_pesq(), "corpora": _sizes(corpora), "codecs": rows,
        "encode_share": share, "encode_share_of_forward": share["share"]["value"],
    }  # fmt: skip


def measure_units(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every tokenizer of units on each corpus, several at a time."""
    manifests = {"synthetic": options.manifest} | ({"real": options.real_manifest} if options.real_manifest else {})
    learned = {"synthetic": options.lm_manifest, "real": options.lm_real_manifest}
    names = {"synthetic": options.units, "real": options.units + ([f"{ALIGNER}={options.aligner}"] if options.aligner else [])}
    sizes = {"max_minutes": options.max_minutes, "lm_minutes": options.lm_minutes, "lm_steps": 5 if options.fast else STEPS}
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        rows = [
            pool.submit(unit_rows, name, corpus, path, lm_manifest=learned[corpus], **sizes)
            for corpus, path in manifests.items() for name in names[corpus]
        ]  # fmt: skip
        return [row for future in rows for row in future.result()]


def codec_rows(name: str, corpora: dict[str, list[Recording]]) -> list[dict[str, Any]]:
    """A row a number of codebooks, 1, 2, 4, ... and all."""
    codec = load_acoustic(name)
    reports = {corpus: codec_report(codec, recordings) for corpus, recordings in corpora.items()}
    first = next(iter(reports.values()))
    speed = real_time_factors(codec, next(iter(corpora.values())))
    rows = []
    for system in first["systems"]:
        if not system.isdigit():
            continue
        kbps = int(system) * np.log2(codec.codebook_size) * codec.sample_rate / codec.hop_length / 1000
        row = {"name": short_name(name), "n_codebooks": int(system), "kbps": round(float(kbps), 2)}
        row["codebook_perplexity"] = [round(value, 1) for value in first["codebook_perplexity"][: int(system)]]
        rows.append({**row, **_scores(system, reports), **speed})
        print(f"{row['name']} {system}: {rows[-1].get('stoi_real', rows[-1].get('stoi_synthetic'))}", flush=True)
    return rows


def opus_rows(name: str, corpora: dict[str, list[Recording]]) -> list[dict[str, Any]]:
    """Opus, and what bounds every codec: the recording itself, and silence; at the rate of the codec ``name``."""
    codec = load_acoustic(name)
    reports = {corpus: codec_report(codec, recordings, codebooks=[1], opus=OPUS_KBPS) for corpus, recordings in corpora.items()}
    rows = []
    for system, scores in next(iter(reports.values()))["systems"].items():
        if system.isdigit():
            continue
        kbps = round(scores["kbps"]["mean"], 2) if "kbps" in scores else None
        rows.append({"name": system, "n_codebooks": None, "kbps": kbps, **_scores(system, reports), "rtf_encode": None, "rtf_decode": None})
    return rows


def real_time_factors(codec: AcousticTokenizer, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Seconds of work a second of audio, encoding and decoding by all codebooks, on one thread: median and spread."""
    speech = np.concatenate([recording.wav for recording in recordings[:8]])
    wav = torch.from_numpy(np.resize(speech, round(RTF_SECONDS * codec.sample_rate)))[None]
    encoding, decoding = seconds_of_work(codec, wav, repeats=RTF_REPEATS)
    spreads = {"rtf_encode": figure(encoding, digits=5), "rtf_decode": figure(decoding, digits=5)}
    return {**{name: spread["value"] for name, spread in spreads.items()}, "rtf_spread": {n: s["spread"] for n, s in spreads.items()}}


def unit_rows(
    name: str, corpus: str, manifest: Path, *, lm_manifest: Path | None, max_minutes: float, lm_minutes: float, lm_steps: int
) -> list[dict[str, Any]]:
    """All measures of units on one corpus; on synthetic speech, only voices that train does not have.

    Real speech has another row, where only phones count that were found with some confidence.  An excerpt of it is too small for phones
    between the same neighbours: there, neighbours may be any.
    """
    cuts = choose_cuts(manifest, max_seconds=60 * max_minutes, unseen_voices=corpus == "synthetic")
    tokenizer = _unit_tokenizer(name, lm_manifest)
    encoded = encode_cuts(tokenizer, cuts)
    bits = {}
    if lm_manifest:
        train = encode_cuts(tokenizer, choose_cuts(lm_manifest, max_seconds=60 * lm_minutes, unseen_voices=False), with_features=False)
        rate = tokenizer.sample_rate / tokenizer.hop_length
        bits = {"small_lm": small_lm_bits(train.units, encoded.units, num_units=tokenizer.num_units, rate_hz=rate, steps=lm_steps)}
    rows = [_unit_row(name, corpus, tokenizer, encoded, bits)]
    if corpus == "real":
        rows.append(_unit_row(name, "real_confident", tokenizer, replace(encoded, min_confidence=CONFIDENT), bits))
    for row in rows:
        print(f"{row['name']} on {row['corpus']}: across {row['abx_across']}", flush=True)
    return rows


def _unit_row(name: str, corpus: str, tokenizer: SemanticTokenizer, encoded: EncodedCorpus, bits: dict[str, float]) -> dict[str, Any]:
    context: Context = "same" if corpus == "synthetic" else "any"
    report = unit_report(tokenizer.identity, encoded, context=context, num_triples=2000 if corpus == "synthetic" else 20_000)
    across, within = report["abx"]["across"], report["abx"]["within"]
    return {
        "name": short_name(name), "corpus": corpus, "abx_context": context, "rate_hz": report["rate_hz"], "num_units": report["num_units"],
        "min_confidence": report["min_confidence"],
        "abx_across": across.get("units"), "abx_within": within.get("units"),
        "abx_across_features": across.get("features"), "abx_within_features": within.get("features"),
        "pnmi": report["purity"].get("pnmi"), "speaker_probe": report["speaker_probe"].get("accuracy"),
        "speaker_split": report["speaker_probe"].get("split"),
        "perplexity": report["perplexity"], "bits_per_second": {**report["bits_per_second"], **bits}, "minutes": report["seconds"] / 60,
        "controls": {
            "abx_across_permuted": across.get("permuted_units"), "abx_within_permuted": within.get("permuted_units"),
            "pnmi_permuted": report["purity"].get("permuted", {}).get("pnmi"),
            "speaker_probe_permuted": report["speaker_probe"].get("permuted"), "speaker_chance": report["speaker_probe"].get("chance"),
        },
    }  # fmt: skip


def _unit_tokenizer(name: str, fit_manifest: Path | None) -> SemanticTokenizer:
    label, _, folder = name.partition("=")
    if label != ALIGNER:
        return load_semantic(name)
    if fit_manifest is None:
        raise UserError(f"expected --lm-real-manifest, on which to cluster what the aligner in {folder} hears, found none")
    return aligner_units(Path(folder), fit_manifest)


def short_name(name: str) -> str:
    """``exp/soundstream/codec`` is soundstream; a name is itself."""
    path = Path(name.partition("=")[0])
    return path.parent.name if path.name in ("codec", "units") and path.parent.name else path.name


def _scores(system: str, reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``stoi_real`` and the like, and their 95 % intervals over recordings."""
    found = {
        f"{measure}_{corpus}": report["systems"][system][measure]
        for corpus, report in reports.items() for measure in MEASURES if measure in report["systems"][system]
    }  # fmt: skip
    means = {name: round(estimate["mean"], 4) for name, estimate in found.items()}
    return {**means, "intervals": {name: [round(estimate["low"], 4), round(estimate["high"], 4)] for name, estimate in found.items()}}


def _recordings(manifest: Path, most: int) -> list[Recording]:
    cuts = list(read_cuts(manifest))
    chosen = [cuts[index * len(cuts) // most] for index in range(most)] if len(cuts) > most else cuts

    def audio(wav: Waveform, rate: int) -> Recording:
        return Recording(wav[: int(LONGEST_SECONDS * rate)], rate)

    return [audio(*read_cut(cut)) for cut in chosen]


def _sizes(corpora: dict[str, list[Recording]]) -> dict[str, Any]:
    seconds = {name: sum(len(recording.wav) / recording.sample_rate for recording in of) for name, of in corpora.items()}
    return {name: {"recordings": len(of), "minutes": round(seconds[name] / 60, 2)} for name, of in corpora.items()}


def _made(folder: Path, *, test_minutes: float) -> Path:
    make_audio(folder, hours=0.05, dev_minutes=0.2, test_minutes=test_minutes)
    return folder / "data/manifests/cuts_test.jsonl.gz"


def _read(path: Path) -> dict[str, Any]:
    return {"runs": {}, **(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})}


if __name__ == "__main__":
    main()
