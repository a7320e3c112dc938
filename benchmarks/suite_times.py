#!/usr/bin/env python3
"""Processor time of the suites of bin/evaluate.py and of bin/score.py, by the length of the audio that they measure; goal: a quarter.

  cd egs/espeak; python3 -m benchmarks.suite_times --corpus data/tokenized --max-items 32 --reports exp/report

One thread, each suite in one run with what it has to load: the clock's time on an idle core.  ``--reports`` are weighed.  Writes
benchmarks/results/suite_times.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.common import RESULTS, figure, goal_lines, header, write_results
from valle.audio import write_wav
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.evaluation.continuations import in_hashed_order
from valle.evaluation.evaluate import PAGE, EvaluateOptions, evaluate
from valle.evaluation.score import ScoreOptions, score

SHARE, MOST_MIB = 0.25, 10 * 10**6 / 2**20  # of the audio's length; 10 MB


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of cuts with tokens")
    parser.add_argument("--max-items", type=int, default=32, help="utterances of each suite")
    parser.add_argument("--reports", type=Path, nargs="*", default=[], help="folders of reports whose pages are weighed")
    parser.add_argument("--output", type=Path, default=RESULTS / "suite_times.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    command = f"python3 -m benchmarks.suite_times --corpus {options.corpus} --max-items {options.max_items}"
    if options.reports:
        command += f" --reports {' '.join(map(str, options.reports))}"
    results: dict[str, Any] = {**header([command]), "suites": times(options.corpus, options.max_items)}
    results["pages"] = {folder.name: _weight(folder / PAGE) for folder in options.reports}
    write_results(options.output, results)
    print("\n".join(goal_lines(results)))
    print(f"written: {options.output}")


def times(corpus: Path, max_items: int) -> dict[str, Any]:
    """Work by the second of audio: of the bundled model, on the same utterances of test, and of dev for ``lm``."""
    test, dev = (in_hashed_order(read_cuts(corpus / f"cuts_{part}.jsonl.gz"), 0)[:max_items] for part in ("test", "dev"))
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "audio").mkdir()
        for cut in test:
            write_wav(folder / "audio" / f"{cut.id}.wav", *read_cut(cut))

        def suite(name: str) -> Callable[[], object]:
            return lambda: evaluate(EvaluateOptions(corpus=corpus, output_dir=folder / name, suite=name, max_items=max_items))

        work = {name: (suite(name), dev if name == "lm" else test) for name in ("codec", "units", "lm")}
        work["score"] = (lambda: score(ScoreOptions(audio=[folder / "audio"])), test)
        return {name: _share(run, sum(cut.duration for cut in cuts)) for name, (run, cuts) in work.items()}


def _share(run: Callable[[], object], seconds: float) -> dict[str, Any]:
    began = time.process_time()
    run()
    took = time.process_time() - began
    return {**figure([took / seconds], at_most=SHARE, means="processor time by the second of audio"), "audio_seconds": round(seconds, 1)}


def _weight(page: Path) -> dict[str, Any]:
    return figure([page.stat().st_size / 2**20], at_most=MOST_MIB, means="MiB")


if __name__ == "__main__":
    main()
