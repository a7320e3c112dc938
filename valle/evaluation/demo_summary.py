"""What the demo measured, as ``summary.json`` and as tables: one place that says which figure comes from where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valle.errors import UserError
from valle.inference.listening_page import PageTable
from valle.models.registry import all_stages, missing_stages
from valle.training.summary import stage_rows

SYSTEMS = {
    "generated": "continuations",
    "real": "real speech (what the speaker said next)",
    "round_trip": "real speech through the codec",
    "shuffled": "wrong prompt (shuffled)",
}


class DemoError(UserError):
    """A run that cannot be reported."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The reports that the summary is made of."""

    training: Mapping[str, Any]  # the trainer's summary.json
    statistics: Mapping[str, Any]  # of info.json, by part
    n_voices: int
    infer: Mapping[str, Any]  # the summary of infer
    continued: str  # folder of infer's wavs, relative to the page
    codec_real: Mapping[str, Any]  # codec reports on real and on synthetic speech that neither codec nor model has heard
    codec_synthetic: Mapping[str, Any]
    voices: Mapping[str, Any]  # the voice report, or {"left_out": why}
    report: Mapping[str, Any]  # {"page": relative to the demo's, "seconds": to measure it}, or {"left_out": why}
    wall_seconds: float


def demo_summary(measured: Measured) -> dict[str, Any]:
    """Everything in plain values; NLL in nats a token, ``train_nll`` measured as ``valid_nll`` is, on as many cuts."""
    training = measured.training
    real, synthetic = (_all_codebooks(report) for report in (measured.codec_real, measured.codec_synthetic))
    return {
        "wall_seconds": round(measured.wall_seconds, 1),
        "hours_train": measured.statistics["train"]["hours"],
        "n_voices": measured.n_voices,
        **{name: training[name] for name in all_stages() if name in training},
        **{name: training[name] for name in ("steps", "epochs", "seconds", "dtype", "peak_memory_gib") if name in training},
        "codec": {
            "stoi_real_test": real["stoi"]["mean"],
            "mel_l1": real["mel_l1"]["mean"],
            "stoi_synthetic_test": synthetic["stoi"]["mean"],
            "mel_l1_synthetic_test": synthetic["mel_l1"]["mean"],
            "real": measured.codec_real,
            "synthetic": measured.codec_synthetic,
        },
        "voices": measured.voices,
        "report": measured.report,
        "continuations": [
            {
                "prompt": item["prompt"], "wav": f"{measured.continued}/{item['wav']}", "seconds": item["seconds"],
                "prompt_seconds": item["prompt_seconds"], "generated_seconds": item["generated_seconds"], "seed": item["seed"],
            }
            for item in measured.infer["items"]
        ],
        "rtf_infer": measured.infer["rtf"],
    }  # fmt: skip


def read_training_summary(path: Path) -> dict[str, Any]:
    """The trainer's ``summary.json``, or a demo's, which holds the same entries."""
    if not path.is_file():
        raise DemoError(f"expected the trainer's summary at {path}, found none; wait until training ends")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DemoError(f"{path} is damaged ({type(error).__name__}); train again") from error
    if not isinstance(summary, dict):
        raise DemoError(f"expected entries by name in {path}, found a {type(summary).__name__}; train again")
    if missing := missing_stages(summary):
        raise DemoError(f"expected a run that trained all stages, found no {', '.join(missing)} in {path}; train with --train-stage 0")
    return summary


def demo_tables(summary: Mapping[str, Any]) -> list[PageTable]:
    """The same figures for people."""
    tables = [_stages_table(summary), _voices_table(summary["voices"]), _codec_table(summary["codec"]), _run_table(summary)]
    return [table for table in tables if table.rows]


def as_text(table: PageTable) -> str:
    """A table in columns of plain text."""
    rows = [row for row in (table.columns, *table.rows) if any(row)]
    first, *others = (max(map(len, cells)) for cells in zip(*rows, strict=True))
    lines = ["  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))]) for row in rows]
    return "\n".join([table.title, *(f"  {line.rstrip()}" for line in lines)])


def _stages_table(summary: Mapping[str, Any]) -> PageTable:
    rows = [_stage_row(name, values) for name, values in stage_rows(summary)]
    note = (
        "Lower is better. The unigram model knows only how often each token occurs. "
        "Train loss is measured like dev loss: without dropout, on as many recordings."
    )
    return PageTable("Loss in nats per token", ("stage", "train", "dev", "unigram", "below unigram", "accuracy"), rows, note=note)


def _stage_row(name: str, values: Mapping[str, float]) -> Sequence[str]:
    train, valid, unigram = (values[key] for key in ("train_nll", "valid_nll", "unigram_nll"))
    return (name, f"{train:.2f}", f"{valid:.2f}", f"{unigram:.2f}", f"{unigram - valid:.2f}", f"{100 * values['accuracy']:.0f} %")


def _voices_table(voices: Mapping[str, Any]) -> PageTable:
    if "left_out" in voices:
        return PageTable("Is it the prompt's voice?", ("",), ((f"not measured: {voices['left_out']}",),))
    rows = [(label, _percent(voices[name]), _percent_range(voices[name]), str(voices[name]["count"])) for name, label in SYSTEMS.items()]
    rows.append(("chance", f"{100 * voices['chance']:.1f} %", "", ""))
    note = (
        f"Share of clips that a small classifier of {voices['num_voices']} voices, trained on other utterances, assigns to the prompt's "
        f"voice. It hears only new audio, starting {voices['left_out_after_the_prompt_seconds']:.2f} s after the prompt."
    )
    return PageTable("Is it the prompt's voice?", ("", "share", "95 % interval", "clips"), rows, note=note)


def _codec_table(codec: Mapping[str, Any]) -> PageTable:
    rows = []
    for label, report in (("real speech", codec["real"]), ("synthetic speech", codec["synthetic"])):
        for name, scores in report["systems"].items():
            if name not in ("identity", "silence"):
                name = f"{label}, {name} codebook{'' if name == '1' else 's'}"
                rows.append((name, f"{scores['stoi']['mean']:.2f}", f"{scores['mel_l1']['mean']:.2f}"))
    note = (
        "On recordings that the codec was not trained on. STOI: 1 for the recording itself, 0 for silence. "
        "Mel distance in nats: 0 for the recording itself."
    )
    return PageTable("What the codec keeps", ("", "STOI", "mel distance"), rows, note=note)


def _run_table(summary: Mapping[str, Any]) -> PageTable:
    rows = [
        ("training speech", f"{summary['hours_train']:.2f} h of {summary['n_voices']} voices"),
        ("wall time of the demo", f"{summary['wall_seconds'] / 60:.1f} min"),
        ("work per second of new audio", f"{summary['rtf_infer']:.2f} s"),
    ]
    if "peak_memory_gib" in summary:
        rows.append(("peak memory (training)", f"{summary['peak_memory_gib']:.1f} GiB"))
    if "seconds" in summary:
        rows.insert(1, ("training", f"{summary['seconds'] / 60:.1f} min, {summary['steps']} steps, {summary['dtype']}"))
    if "seconds" in summary.get("report", {}):
        rows.append(("measuring the report", f"{summary['report']['seconds']:.0f} s"))
    return PageTable("This run", ("", ""), rows)


def _all_codebooks(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scores with the most codebooks."""
    systems = report["systems"]
    scores: Mapping[str, Any] = systems[max((name for name in systems if name.isdigit()), key=int)]
    return scores


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['mean']:.0f} %"


def _percent_range(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['low']:.0f} to {100 * estimate['high']:.0f} %"
