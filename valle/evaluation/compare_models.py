"""``bin/evaluate.py --compare``: reports, or models that are measured first, side by side in a table, a page and a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from valle.errors import UserError
from valle.evaluation.compare import Compared, ReadReport, compare_reports, comparison_to_json, read_report
from valle.evaluation.compare_page import write_compare_page
from valle.evaluation.evaluate import EvaluateOptions, evaluate
from valle.files import write_text
from valle.models.checkpoint import newest_checkpoint
from valle.outputs import claim_outputs
from valle.progress import TitledProgress

TABLE, PAGE, REPORTS = "compare.json", "compare.html", "reports"


@dataclass(frozen=True)
class Comparison:
    """What was compared, in the order in which it was named."""

    reports: Sequence[ReadReport]
    compared: Sequence[Compared]
    left_out: Sequence[str]


def compare(options: EvaluateOptions, *, progress: TitledProgress = lambda title, done, wanted: None) -> Comparison:
    """Write ``compare.json`` and ``compare.html`` into ``options.output_dir``.

    A folder with ``suites/`` is a report. Anything else is a model: a trainer's folder, a released one, or a name on the hub. It is
    measured with the other flags, and its report goes into ``output_dir/reports``.
    """
    names = _names(options.compare)
    outputs = claim_outputs(options.output_dir, [TABLE, PAGE], program="compare", inputs=options.compare)
    reports = []
    for path, name in zip(options.compare, names, strict=True):
        folder = path if (path / "suites").is_dir() else _measured(options, path, name, progress)
        reports.append(read_report(folder, name=name))
    compared, left_out = compare_reports(reports)
    with outputs.being_written():
        write_text(options.output_dir / TABLE, comparison_to_json(reports, compared, left_out))
        write_compare_page(options.output_dir / PAGE, reports, compared, left_out)
    return Comparison(reports, compared, left_out)


def _measured(options: EvaluateOptions, path: Path, name: str, progress: TitledProgress) -> Path:
    """The report of a model, which goes on where an earlier one ended."""
    if options.corpus is None:
        raise UserError(f"expected a report of bin/evaluate.py in {path}, found no suites/ there; to measure it as a model give --corpus")
    is_run = path.is_dir() and ((path / "best-valid-loss.pt").is_file() or newest_checkpoint(path) is not None)
    folder = options.output_dir / REPORTS / name
    own = replace(options, exp_dir=path if is_run else None, model=None if is_run else path, compare=[], output_dir=folder)
    evaluate(own, progress=lambda title, *counts: progress(f"{name}, {title}", *counts))
    return folder


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names, where they tell the paths apart."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else ["-".join(path.resolve().parts[-2:]) for path in paths]
