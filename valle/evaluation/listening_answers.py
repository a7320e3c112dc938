"""What raters answered, against the key: how often they told real speech from generated, or which model they preferred."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from valle.errors import UserError
from valle.evaluation.listening_test import KEY, RESULT, ListeningTestOptions
from valle.files import write_text
from valle.inference.listening_page import PageTable
from valle.measures.intervals import share
from valle.outputs import claim_file

RATINGS_FOR_55 = 780  # independent ones, so that 55 % is told from 50 % with 80 % power (two-sided, 5 %)
CHOICES = {"real-or-generated": ("real", "generated"), "preference": ("first", "second")}


def read_listening_test(options: ListeningTestOptions) -> dict[str, Any]:
    """Score ``options.answers`` against the key in ``options.output_dir`` -> the result, which also goes into ``result.json``."""
    key = _read_json(options.output_dir / KEY, wanted={"test", "kind", "trials", "reports"})
    outputs = claim_file(options.output_dir / RESULT, program="listening_test", inputs=options.answers)
    hits: dict[str, list[bool]] = {}
    truths: dict[str, list[bool]] = {}
    for path in options.answers:
        rater, rows = _answers_of(path, key)
        if rater in hits:
            raise UserError(f"expected one file of answers a rater, found a second one of {rater} in {path}; leave one out")
        hits[rater] = [hit for hit, _ in rows]
        for hit, truth in rows:
            truths.setdefault(truth, []).append(hit)
    everything = [hit for own in hits.values() for hit in own]
    if not everything:
        raise UserError(f"expected answers in {options.answers[0]}, found none; let raters finish the test")
    result = {
        "test": key["test"], "kind": key["kind"], "reports": key["reports"], "measure": _measure(key), "all": binomial(everything),
        "by_rater": {rater: binomial(own) for rater, own in hits.items()},
        "by_truth": {truth: binomial(own) for truth, own in sorted(truths.items())} if key["kind"] == "real-or-generated" else {},
    }  # fmt: skip
    with outputs.being_written():
        write_text(options.output_dir / RESULT, json.dumps(result, indent=2) + "\n")
    return result


def binomial(hits: Sequence[bool]) -> dict[str, float | int]:
    """The share of hits with Wilson's interval, and the exact two-sided p-value against guessing.

    >>> round(binomial([True] * 9 + [False])["p"], 4)  # 2 * (1 + 10) / 1024
    0.0215
    """
    from scipy.stats import binomtest  # half a second to import

    estimate = share(sum(hits), len(hits))
    return {**estimate.to_dict(), "hits": sum(hits), "p": float(binomtest(sum(hits), len(hits), 0.5).pvalue)}


def result_table(result: Mapping[str, Any]) -> PageTable:
    """For the terminal."""
    rows = [("all ratings", result["all"]), *((f"  rater {name}", row) for name, row in result["by_rater"].items()),
            *((f"  clips that are {name}", row) for name, row in result["by_truth"].items())]  # fmt: skip
    shown = [
        (label, f"{100 * row['mean']:.1f} %", f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %", str(row["count"]), f"{row['p']:.3g}")
        for label, row in rows
    ]
    return PageTable(str(result["measure"]), ("", "share", "95 % interval", "ratings", "p against 50 %"), shown)


def caution(result: Mapping[str, Any]) -> str:
    """What the number of ratings cannot show; empty where it is large enough."""
    count = result["all"]["count"]
    if count >= RATINGS_FOR_55:
        return ""
    return (
        f"{count} ratings: about {RATINGS_FOR_55} independent ones are needed to tell 55 % from 50 %. A p-value above 0.05 does not say "
        "that the two sound the same."
    )


def _measure(key: Mapping[str, Any]) -> str:
    if key["kind"] == "preference":
        return f"ratings that prefer {key['reports'][1]} to {key['reports'][0]}"
    return "ratings that tell real speech from generated, both through the codec"


def _answers_of(path: Path, key: Mapping[str, Any]) -> tuple[str, list[tuple[bool, str]]]:
    """The rater, and of each answer whether it hits, and what was heard."""
    answers = _read_json(path, wanted={"test", "rater", "answers"})
    if answers["test"] != key["test"]:
        raise UserError(f"expected answers of the test {key['test']}, found those of {answers['test']} in {path}; name that test's folder")
    rows, seen = [], set[str]()
    for row in answers["answers"]:
        trial, answer = row.get("trial"), row.get("answer")
        if trial not in key["trials"] or trial in seen or answer not in CHOICES[key["kind"]]:
            raise UserError(f"expected one answer ({' or '.join(CHOICES[key['kind']])}) a trial in {path}, found {answer!r} of {trial!r}")
        seen.add(trial)
        truth = key["trials"][trial]["truth"]
        if key["kind"] == "preference":
            preferred = truth[CHOICES["preference"].index(answer)]
            rows.append((preferred == key["reports"][1], preferred))
        else:
            rows.append((answer == truth[0], truth[0]))
    return str(answers["rater"]), rows


def _read_json(path: Path, *, wanted: set[str]) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"expected a file of a listening test at {path}, found none; make the test first") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}); download it again") from error
    if not isinstance(values, dict) or not wanted <= values.keys():
        raise UserError(f"expected {', '.join(sorted(wanted))} in {path}, found another file; name files of this listening test")
    return values
