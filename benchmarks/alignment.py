#!/usr/bin/env python3
"""How good the phone times of bin/align_phones.py are, round by round, beside controls; needs the aligner of egs/librispeech.

python -m benchmarks.alignment        benchmarks/results/alignment.json; some minutes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import RESULTS, ROOT, header, write_results
from valle.config import parse_flags
from valle.corpora.manifests import read_cuts
from valle.corpora.pronunciation import Pronouncer
from valle.errors import UserError, run_program
from valle.evaluation.alignment_report import rounds_report
from valle.evaluation.unit_corpus import choose_cuts, draw_cuts

RECIPE = ROOT / "egs" / "librispeech"


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions:
    """Which aligner, on what."""

    aligner_dir: Path = field(default=RECIPE / "exp" / "aligner", metadata={"help": "what align_phones.py has left"})
    recordings: list[Path] = field(
        default_factory=lambda: [RECIPE / "data" / "manifests" / f"cuts_{part}.jsonl.gz" for part in ("dev", "test")],
        metadata={"help": "cuts with transcripts that the aligner was not trained on"},
    )
    timed_manifest: Path = field(
        default=ROOT / "egs" / "espeak" / "data" / "manifests" / "cuts_test.jsonl.gz",
        metadata={"help": "cuts with phone times; those of voices that train lacks are taken"},
    )
    title: str = field(default="LibriSpeech test-other", metadata={"help": "what the recordings are called"})
    minutes: float = field(default=10.0, metadata={"help": "of each, at most"})
    accent: str = field(default="en-us", metadata={"help": "eSpeak NG's accent of transcripts"})
    output: Path = field(default=RESULTS / "alignment.json", metadata={"help": "where the figures go"})


def bench_alignment(options: AlignmentOptions, command: Sequence[str] = ("python -m benchmarks.alignment",)) -> Path:
    """Write the figures; returns where they are."""
    rounds = len(list(options.aligner_dir.glob("round-*/config.yaml")))
    if not rounds:
        raise UserError(f"expected an aligner in {options.aligner_dir}, found none; run bin/align_phones.py in egs/librispeech first")
    started = header(command)
    timed = choose_cuts(options.timed_manifest, max_seconds=60 * options.minutes, unseen_voices=True)
    recordings = draw_cuts([cut for path in options.recordings for cut in read_cuts(path)], max_seconds=60 * options.minutes)
    with Pronouncer(options.accent) as pronouncer:
        report = rounds_report(options.aligner_dir, rounds - 1, timed=timed, recordings=recordings, pronouncer=pronouncer)
    write_results(options.output, {**started, "title": options.title, **report})
    return options.output


if __name__ == "__main__":
    run_program(lambda: print(f"written: {bench_alignment(parse_flags(AlignmentOptions, usage=__doc__ or ''))}"))
