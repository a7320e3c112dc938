"""Figures of a recipe's run into ``benchmarks/results``, from where ``benchmarks.figures`` puts them into the documents.

python3 -m benchmarks.collect --recipe demo           egs/espeak/exp/demo, after make demo
python3 -m benchmarks.collect --recipe librispeech    egs/librispeech/exp/audio-lm, after ./run.sh; the others likewise
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from valle.config import parse_flags
from valle.errors import UserError, run_program
from valle.evaluation.curves import draw_curves, read_curves
from valle.training.summary import unigrams

ROOT = Path(__file__).parent.parent
RUNS = {
    "demo": "espeak/exp/demo",
    "librispeech": "librispeech/exp/audio-lm",
    "atepp": "atepp/exp/audio-lm",
    "folder": "folder/exp/audio-lm",
    "mixed": "mixed/exp/audio-lm",
    "espeak_text": "espeak_text/exp/joint-lm",
    "espeak_dialogue": "espeak_dialogue/exp/conversation",
}


@dataclass(frozen=True, kw_only=True)
class CollectOptions:
    """Whose figures."""

    recipe: Literal["demo", "librispeech", "atepp", "folder", "mixed", "espeak_text", "espeak_dialogue"] = field(
        metadata={"help": "which run"}
    )
    exp_dir: Path | None = field(default=None, metadata={"help": "its folder, if it is not the recipe's own"})
    data_dir: Path | None = field(default=None, metadata={"help": "its tokens, if they are not the recipe's own"})
    root: Path = field(default=ROOT, metadata={"help": "folder of egs/ and benchmarks/results/"})


def collect(options: CollectOptions) -> Path:
    """Write ``benchmarks/results/RECIPE.json`` and the recipe's ``curves.png``; returns the former's path."""
    exp_dir = options.exp_dir or options.root / "egs" / RUNS[options.recipe]
    recipe_folder = options.root / "egs" / RUNS[options.recipe].partition("/")[0]
    if options.recipe == "demo":
        values = _read(exp_dir / "summary.json")
        if "continuations" not in values:
            raise UserError(f"expected a demo's summary in {exp_dir}, found the trainer's alone; let make demo end")
        shutil.copyfile(exp_dir / "curves.png", recipe_folder / "curves.png")
    else:
        values = {"hours": _hours(options.data_dir or recipe_folder / "data" / "tokenized"), **_run(options.recipe, exp_dir)}
        draw_curves(read_curves(exp_dir / "curves.jsonl"), recipe_folder / "curves.png", unigram=unigrams(values["training"]))
    path = options.root / "benchmarks" / "results" / f"{options.recipe}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return path


def _run(recipe: str, exp_dir: Path) -> dict[str, Any]:
    """The trainer's summary, how fast the model speaks, and for fine-tuning the same dev set before and after."""
    values = {"training": _read(exp_dir / "summary.json")}
    if recipe == "folder":
        values |= {"before": _read(exp_dir / "before.json"), "after": _read(exp_dir / "after.json")}
    if (exp_dir / "continued" / "summary.json").is_file():
        infer = _read(exp_dir / "continued" / "summary.json")
        values["infer"] = {"rtf": infer["rtf"], "continuations": len(infer["items"])}
    return values


def _hours(manifest_dir: Path) -> dict[str, float]:
    return {part: values["hours"] for part, values in _read(manifest_dir / "info.json")["statistics"].items()}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"expected what a run of the recipe leaves at {path}, found nothing there; run it to its end first")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


if __name__ == "__main__":
    run_program(lambda: print(f"wrote {collect(parse_flags(CollectOptions, usage=__doc__ or ''))}"))
