#!/usr/bin/env python3
"""Do continuations keep the prompt's voice, of several models on the same prompts of real and of synthetic speech?

  python -m benchmarks.voices_kept --models valle/assets/audio-lm exp/released --corpora synthetic=cuts_train.jsonl.gz,cuts_test.jsonl.gz \\
    "LibriSpeech test-other=cuts_dev.jsonl.gz,cuts_test.jsonl.gz"

A corpus is manifests whose supervisions name speakers.  Half of every speaker's cuts go to a judge of voices, the others are
prompts, and the other way round (``valle/evaluation/voice_report.py``).  Beside the share of voices stand how much of what is
said is silence, and the controls.  ``--temperatures 0.6 0.9`` draws new units at each of them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lhotse.cut import Cut

from benchmarks.common import RESULTS, header, write_results
from valle.corpora.manifests import read_cuts, write_cuts
from valle.evaluation.voice_report import VoiceTrialSettings, voice_of, voice_report
from valle.inference.pipeline import Pipeline
from valle.measures.intervals import share

SHORTEST_SECONDS = 5.0  # of a cut with a prompt, so that whatever the codec all models have the same


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, metavar="[NAME=]FOLDER", help="released models")
    parser.add_argument("--corpora", nargs="+", required=True, metavar="NAME=MANIFEST,MANIFEST", help="cuts with named speakers")
    parser.add_argument("--num-prompts", type=int, default=48)
    parser.add_argument("--max-seconds", type=float, default=4.0, help="of new audio")
    parser.add_argument(
        "--temperatures", nargs="+", type=float, metavar="T", help="of new units, each model at each; the usual one if not given"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "voices_kept.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    models, corpora = (dict(_named(words) for words in given) for given in (options.models, options.corpora))
    settings = VoiceTrialSettings(num_prompts=options.num_prompts, max_seconds=options.max_seconds)
    systems = {name: (model, settings) for name, model in models.items()}
    command = ["python -m benchmarks.voices_kept --models", *options.models, "--corpora", *(f'"{words}"' for words in options.corpora)]
    if options.num_prompts != parser.get_default("num_prompts"):
        command += ["--num-prompts", str(options.num_prompts)]
    if options.temperatures:
        systems = {
            f"{name}, units at {value:g}": (model, replace(settings, semantic_temperature=value))
            for name, model in models.items() for value in options.temperatures
        }  # fmt: skip
        command += ["--temperatures", *(f"{value:g}" for value in options.temperatures)]
    results: dict[str, Any] = {**header(command), "num_prompts": options.num_prompts, "corpora": {}}
    for name, manifests in corpora.items():
        cuts = [cut for path in manifests.split(",") for cut in read_cuts(Path(path))]
        results["corpora"][name] = measure(systems, cuts)
    write_results(options.output, results)
    print(f"written: {options.output}")


def measure(systems: Mapping[str, tuple[str, VoiceTrialSettings]], cuts: Iterable[Cut]) -> dict[str, Any]:
    """Every model, with its settings, on the same prompts: each half of the cuts once for the judge and once for prompts, both together."""
    halves = parted(cuts)
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for known, others in (halves, halves[::-1]):
        for name, (model, settings) in systems.items():
            reports[name].append(half_report(Pipeline.from_pretrained(model), known, others, settings))
    return {name: pooled(of_model) for name, of_model in reports.items()}


def half_report(pipeline: Pipeline, known: Iterable[Cut], others: Iterable[Cut], settings: VoiceTrialSettings) -> dict[str, Any]:
    """One half: a judge that is fitted on the cuts ``known`` hears what goes on after the beginnings of ``others``."""
    prompts = [cut for cut in others if cut.duration >= SHORTEST_SECONDS]
    with tempfile.TemporaryDirectory() as folder:
        for part, chosen in (("train", known), ("test", prompts), ("dev", [])):
            write_cuts(chosen, Path(folder) / f"cuts_{part}.jsonl.gz")
        return voice_report(pipeline, Path(folder), settings)


def parted(cuts: Iterable[Cut]) -> tuple[list[Cut], list[Cut]]:
    """Of every speaker's cuts by turns one to each half; speakers of fewer than four are left out."""
    by_speaker: dict[str, list[Cut]] = defaultdict(list)
    for cut in sorted(cuts, key=lambda cut: cut.id):
        by_speaker[voice_of(cut)].append(cut)
    known = [own for speaker, own in sorted(by_speaker.items()) if speaker and len(own) > 3]
    return [cut for own in known for cut in own[::2]], [cut for own in known for cut in own[1::2]]


def pooled(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares of the clips of all reports together."""
    counts = [report["generated"]["count"] for report in reports]
    shares = {
        name: share(sum(round(report[name]["mean"] * report[name]["count"]) for report in reports), sum(counts)).to_dict()
        for name in ("generated", "real", "round_trip", "shuffled")
    }
    silence = {
        name: sum(report["silence_share"][name]["mean"] * count for report, count in zip(reports, counts, strict=True)) / sum(counts)
        for name in ("generated", "real")
    }
    return {**shares, "silence_share": silence, "num_voices": [report["num_voices"] for report in reports]}


def _named(words: str) -> tuple[str, str]:
    name, _, rest = words.partition("=")
    return name, rest or name


if __name__ == "__main__":
    main()
