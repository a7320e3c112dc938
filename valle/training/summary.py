"""A run in figures: ``summary.json``, by stage."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

from valle.models.draft_heads import is_draft_term
from valle.models.registry import all_stages, stage_of
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World
from valle.training.logs import Sums

# Of a stage with a term a level, lists; under the names that the terms' own values have in the other stages.
PER_LEVEL = {
    "nll_per_codebook": "valid_nll", "train_nll_per_codebook": "train_nll", "unigram_nll_per_codebook": "unigram_nll",
    "accuracy_per_codebook": "accuracy",
}  # fmt: skip
CODES = "codes"  # beside the stages
TOGETHER = ("bits_per_second", "unigram_bits_per_second")


def summarise(task: AudioLMTask, *, train: Sums, valid: Sums) -> dict[str, Any]:
    """Nats a token by stage, train measured like valid on as many cuts, beside the unigram's.

    Draft heads stand in ``drafts``, a row each in their order, and are no part of their stage's figures.
    A stage with one term is a row; one with a term a level holds lists; one with other terms is the row of all together,
    counted by the first, with a row each in ``parts``.  ``codes`` holds nats a second of all codes together, see ``codes_row``.
    """
    unigram, summary = task.unigram_nll(), dict[str, Any]()
    for stage in dict.fromkeys(stage_of(name) for name in valid):
        of_stage = [name for name in valid if stage_of(name) == stage]
        names = [name for name in of_stage if not is_draft_term(name)]
        seconds = predicted_seconds(task, stage)
        rows = {name: _row(name, train=train, valid=valid, unigram=unigram, seconds=seconds) for name in names}
        what = [name.partition("_")[2] for name in names]
        if all(name.isdigit() for name in what):
            values = {key: [row[name] for row in rows.values()] for key, name in PER_LEVEL.items()}
            summary[stage] = {"levels": [int(name) for name in what], **values}
        elif len(names) == 1:
            summary[stage] = rows[names[0]]
        else:
            summary[stage] = {**_together(rows, train=train, valid=valid), "parts": dict(zip(what, rows.values(), strict=True))}
        if len(of_stage) > len(names):
            summary[stage]["drafts"] = [_draft_row(train[name], valid[name]) for name in of_stage if is_draft_term(name)]
    codes = codes_row(task, train=train, valid=valid, unigram=unigram)
    return summary if codes is None else {**summary, CODES: codes}


def codes_row(task: AudioLMTask, *, train: Sums, valid: Sums, unigram: Mapping[str, float]) -> dict[str, float] | None:
    """Nats a second of the codes of all levels, which compare among acoustic models that have learned the same tokens.

    Each term's nats a code, times the levels that it counts, times frames a second: what a model leaves out of a crop, as prompts
    and delayed tails, changes no figure.  None where a stage was not trained, or where the model's terms do not add up.
    """
    stages = task.model.acoustic_stages()
    if not task.model.acoustic.adds_up or not stages.keys() <= set(task.stages):
        return None
    batch = next(iter(task.validation_batches(World())))
    levels = {name: len(counts) for stage, module in stages.items() for name, counts in module.histograms(**batch[stage]).items()}
    rate = task.manifests.timeline.codes.rate
    nats = {
        "train": {name: train[name][0] / train[name][1] for name in levels},
        "valid": {name: valid[name][0] / valid[name][1] for name in levels},
        "unigram": unigram,
    }
    return {f"{kind}_nats_per_second": rate * sum(values[name] * levels[name] for name in levels) for kind, values in nats.items()}


def _row(name: str, *, train: Sums, valid: Sums, unigram: Mapping[str, float], seconds: float | None) -> dict[str, float]:
    nats, count, hits = valid[name]
    row = {
        "train_nll": train[name][0] / train[name][1], "valid_nll": nats / count, "unigram_nll": unigram[name], "accuracy": hits / count,
        "valid_tokens": count,
    }  # fmt: skip
    if seconds is None:
        return row
    bits = {"bits_per_second": nats / log(2) / seconds, "unigram_bits_per_second": unigram[name] * count / log(2) / seconds}
    return {**row, "tokens_per_second": count / seconds, **bits}


def _draft_row(train: tuple[float, float, float], valid: tuple[float, float, float]) -> dict[str, float]:
    return {"train_nll": train[0] / train[1], "valid_nll": valid[0] / valid[1], "accuracy": valid[2] / valid[1]}


def _together(rows: Mapping[str, dict[str, float]], *, train: Sums, valid: Sums) -> dict[str, float]:
    """Units and durations, say, as one: their nats together by units.

    Bits count everything that is predicted, ends too, over the time that it covers, so that sequences of other lengths compare.
    """
    names, first = list(rows), next(iter(rows.values()))
    tokens = first["valid_tokens"]
    nats = {
        "train_nll": sum(train[name][0] for name in names) / train[names[0]][1],
        "valid_nll": sum(valid[name][0] for name in names) / tokens,
        "unigram_nll": sum(row["unigram_nll"] * valid[name][1] for name, row in rows.items()) / tokens,
    }
    return {**first, **nats, **{key: sum(row[key] for row in rows.values()) for key in TOGETHER if key in first}}


def predicted_seconds(task: AudioLMTask, stage: str) -> float | None:
    """Time that the stage's targets in validation cover, if it counts by the unit grid."""
    module, grid, frames = task.model.stages()[stage], task.manifests.timeline.units, 0
    for batch in task.validation_batches(World()):
        predicted = module.frames_predicted(**batch[stage])
        if predicted is None or grid is None:
            return None
        frames += predicted
    return float(frames * grid.step) if grid is not None else None


def stage_rows(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """What a table shows of a summary: a row a stage, and one a level (``fine, level 3``) of a stage that has levels."""
    rows: list[tuple[str, dict[str, float]]] = []
    for stage in (name for name in all_stages() if name in summary):
        values = summary[stage]
        if "levels" not in values:
            rows.append((stage, values))
            continue
        for place, level in enumerate(values["levels"]):
            rows.append((f"{stage}, level {level}", {name: values[key][place] for key, name in PER_LEVEL.items()}))
    return rows


def unigrams(summary: Mapping[str, Any]) -> dict[str, float]:
    """The unigram's nats a token of every stage without levels."""
    return {name: row["unigram_nll"] for name, row in stage_rows(summary) if name in summary}
