#!/usr/bin/env python3
"""Two choices of ours against the papers', at equal time: coarse codes beside their units or after them, fine codes with units or without.

  python -m benchmarks.ablation --manifest-dir egs/espeak/data/tokenized --minutes 4 --output benchmarks/results/ablation.json

Each of the four runs trains one stage alone with the demo's settings through bin/trainer_audiolm.py, for the same minutes by
the clock, validations included, one after another.  Beside the JSON a table is written, ablation.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import PROGRAMS, RESULTS, ROOT, header, run_child, write_results

DEMO = ROOT / "egs" / "espeak" / "conf" / "demo.yaml"
LOG_LINE = re.compile(r"Epoch \d+, batch \d+, loss\[.*?over (\d+) frames\.\]")


@dataclass(frozen=True)
class Variant:
    """One run: which stage it trains and the flags that make the difference."""

    stage: str
    name: str
    flags: tuple[str, ...]

    @property
    def folder(self) -> str:
        return f"{self.stage}-{self.name}".replace(" ", "-")


VARIANTS = (
    Variant("coarse", "aligned", ("--coarse-conditioning", "aligned")),
    Variant("coarse", "prefix", ("--coarse-conditioning", "prefix")),
    Variant("fine", "with units", ("--fine-units", "true")),
    Variant("fine", "without units", ("--fine-units", "false")),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest-dir", type=Path, required=True, help="data/tokenized of a recipe")
    parser.add_argument("--minutes", type=float, default=4.0, help="of each run")
    parser.add_argument("--output", type=Path, default=RESULTS / "ablation.json")
    parser.add_argument("--work-dir", type=Path, help="keeps the runs there; not given: they are deleted")
    parser.add_argument("--train-options", default="", help='more flags for the trainer, in one word: "--decoder-dim 32 --nhead 2"')
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.work_dir or Path(scratch)).resolve()
        runs: dict[str, dict[str, Any]] = {}
        for variant in VARIANTS:
            print(f"training: {variant.stage}, {variant.name}", file=sys.stderr, flush=True)
            runs.setdefault(variant.stage, {})[variant.name] = train(
                variant, options.manifest_dir.resolve(), work / variant.folder, minutes=options.minutes, more=options.train_options.split()
            )
    command = ["python -m benchmarks.ablation --manifest-dir", str(options.manifest_dir), "--minutes", f"{options.minutes:g}"]
    if options.train_options:
        command.append(f'--train-options "{options.train_options}"')
    write_results(options.output, {**header(command), "minutes_each": options.minutes, **runs})
    options.output.with_suffix(".md").write_text(table(runs), encoding="utf-8")
    print(f"{table(runs)}written: {options.output} and {options.output.with_suffix('.md')}")


def train(variant: Variant, manifest_dir: Path, exp_dir: Path, *, minutes: float, more: Sequence[str]) -> dict[str, Any]:
    """One run anew -> nats a token on dev and what was done in the time."""
    shutil.rmtree(exp_dir, ignore_errors=True)
    run_child(
        [
            sys.executable, PROGRAMS / "trainer_audiolm.py", "--config", DEMO, "--manifest-dir", manifest_dir, "--exp-dir", exp_dir,
            "--train-stage", variant.stage, "--max-minutes", f"{minutes:g}", "--num-epochs", "100000", *variant.flags, *more,
        ],
        # Manifests name their arrays from the recipe's folder, which holds data/tokenized.
        cwd=manifest_dir.parents[1],
    )  # fmt: skip
    summary = json.loads((exp_dir / "summary.json").read_text())
    return {
        **scores(summary, variant.stage),
        "steps": summary["steps"],
        "tokens_per_s": round(tokens_a_second(exp_dir)),
        "dtype": summary["dtype"],
    }


def scores(summary: dict[str, Any], stage: str) -> dict[str, Any]:
    """Nats a token on dev, and of the unigram; of the fine stage the mean over its levels, and each."""
    row = summary[stage]
    if stage != "fine":
        return {
            "valid_nll": round(row["valid_nll"], 3),
            "train_nll": round(row["train_nll"], 3),
            "unigram_nll": round(row["unigram_nll"], 3),
        }
    columns = {"valid_nll": "nll_per_codebook", "train_nll": "train_nll_per_codebook", "unigram_nll": "unigram_nll_per_codebook"}
    means = {name: round(sum(row[key]) / len(row[key]), 3) for name, key in columns.items()}
    return {**means, "valid_nll_per_level": [round(value, 3) for value in row["nll_per_codebook"]]}


def tokens_a_second(exp_dir: Path) -> float:
    """Targets trained on, by the log, over the seconds until the last line of it, validations included."""
    logs = "".join(path.read_text(encoding="utf-8") for path in (exp_dir / "log").glob("log-train-*"))
    curves = [json.loads(line) for line in (exp_dir / "curves.jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in curves if row["kind"] == "train"]
    return sum(map(int, LOG_LINE.findall(logs))) / seconds[-1] if seconds else 0.0


def table(runs: dict[str, dict[str, Any]]) -> str:
    """Markdown; every run a row."""
    lines = ["| stage | | valid NLL | train NLL | unigram | by level | steps | tokens/s |", "|---|---|---:|---:|---:|---|---:|---:|"]
    for stage, variants in runs.items():
        for name, row in variants.items():
            levels = " ".join(f"{value:.2f}" for value in row.get("valid_nll_per_level", []))
            lines.append(
                f"| {stage} | {name} | {row['valid_nll']:.3f} | {row['train_nll']:.3f} | {row['unigram_nll']:.3f} "
                f"| {levels} | {row['steps']} | {row['tokens_per_s']} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
