#!/usr/bin/env python3
"""Figures of quality of the bundled model and of the model that two cores train in an hour, out of reports of bin/evaluate.py.

  python3 -m benchmarks.quality --bundled REPORT ... [--hour REPORT ...]

Nothing is measured here: each REPORT is an --output-dir of bin/evaluate.py, and a figure that none of them holds is left out.  Figures of
a second corpus are kept apart as METRIC@NAME, where its report is named NAME=REPORT.

A row of figures by the command that measures it, in egs/espeak after ``./prepare.sh --texts mixed --withheld-words 0.2``; with the
hour's model ``--model exp/hour/released`` beside it, and another --output-dir (``hour.sh`` does that):

  syn_*                   python3 bin/make_language_suites.py --output-dir data/language --max-items 1000 --withheld-words 0.2
                          python3 bin/evaluate.py --corpus data/tokenized --suite language --language-items data/language \\
                            --max-items 1000 --output-dir exp/quality/language
  abx_*                   python3 bin/evaluate.py --corpus data/tokenized --suite units --max-items 256 --output-dir exp/quality/units
  wer_*, words_*, voice_* python3 bin/evaluate.py --corpus data/tokenized --suite continuation --whisper whisper-base \\
                            --speaker resemblyzer --max-items 64 --output-dir exp/quality/continuation
  detector_*, watermark_* python3 bin/evaluate.py --corpus data/tokenized --suite safety --output-dir exp/quality/safety

Writes benchmarks/results/quality.json: ``{bundled: {metric: {value, low, high, n, controls, corpus, definition}}, hour: {...}}``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, header, write_results
from valle.errors import UserError, run_program
from valle.evaluation.evaluate import REPORT, model_hash
from valle.evaluation.judged_model import judged_model

METRICS = re.compile(r"(syn|wer|words_in_lexicon|words_score|voice_kept|voice_cosine|abx|detector|watermark)(_[\w.]+)?")
RENAMED = {"voice_cosine": "voice_cosine_own"}
KEPT = ("value", "low", "high", "n", "controls", "corpus", "definition")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundled", nargs="+", default=[], metavar="REPORT", help="of the bundled model")
    parser.add_argument("--hour", nargs="+", default=[], metavar="REPORT", help="of the model that two cores train in an hour")
    parser.add_argument("--output", type=Path, default=RESULTS / "quality.json")
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in ("bundled", "hour") if getattr(options, name)}
    if not given:
        raise UserError("expected reports of bin/evaluate.py after --bundled or --hour, found none; measure a model first")
    command = ["python3 -m benchmarks.quality", *(f"--{name} {' '.join(folders)}" for name, folders in given.items())]
    groups = {name: collect(folders, model=bundled_hash() if name == "bundled" else None) for name, folders in given.items()}
    write_results(options.output, {**header(command), **groups})
    for name, figures in groups.items():
        print(f"{name}: {len(figures)} figures of {len(given[name])} reports")
    print(f"written: {options.output}")


def collect(reports: Sequence[str], *, model: str | None = None) -> dict[str, dict[str, Any]]:
    """Figures of all ``reports`` (FOLDER or NAME=FOLDER) by name; raises ``UserError`` for reports of several models.

    ``model`` is the :func:`model_hash` that all must have; None: that of the first.
    """
    found: dict[str, dict[str, Any]] = {}
    source: dict[str, Path] = {}
    for report in reports:
        corpus, _, path = report.rpartition("=")
        folder = Path(path)
        for suite in _suites(folder):
            model = model or suite["settings"]["model_sha256"]
            if suite["settings"]["model_sha256"] != model:
                raise UserError(f"expected reports of one model, found another one's in {folder}; measure it again with this model")
        for name, values in _read(folder / REPORT).items():
            metric = RENAMED.get(name, name) + (f"@{corpus}" if corpus else "")
            if not METRICS.fullmatch(name) or values["value"] is None:
                continue
            if metric in source:
                raise UserError(
                    f"expected each figure in one report, found {metric} in {source[metric]} and in {folder}; name one as NAME={folder}"
                )
            found[metric], source[metric] = {key: values[key] for key in KEPT}, folder
    return dict(sorted(found.items()))


def bundled_hash() -> str:
    """Of the weights that come with the program now: reports of earlier ones are refused."""
    return model_hash(judged_model(None, None)[0].model)


def _suites(folder: Path) -> list[Mapping[str, Any]]:
    files = sorted((folder / "suites").glob("*.json"))
    if not files:
        raise UserError(f"expected a report of bin/evaluate.py in {folder}, found no suites/*.json there; measure the model first")
    return [_read(file) for file in files]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"expected a report of bin/evaluate.py at {path}, found none; run it to its end")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


if __name__ == "__main__":
    run_program(main)
