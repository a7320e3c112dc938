"""The suite of language, through ``bin/evaluate.py``'s own function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from spoken_corpus import write_corpus
from tiny_pipeline import RATE, lean_to_end, recording, tiny_released

from valle.audio import write_wav
from valle.errors import UserError
from valle.evaluation.evaluate import EvaluateOptions, evaluate, left_out
from valle.evaluation.language.items import Pair, Side
from valle.evaluation.language.scores import SCORES, ScoredRecording
from valle.evaluation.suite_language import _Judge
from valle.evaluation.suites import SuiteResult
from valle.models.released import save_released


def write_items(folder: Path) -> Path:
    """Six crossed quadruples, as make_language_suites.py writes them, of noise."""
    for number in range(6):
        group, block = ("number", "tense")[number % 2], f"blimp/{('number', 'tense')[number % 2]}/{number:05d}"
        (folder / block).parent.mkdir(parents=True, exist_ok=True)
        for place in (0, 1):
            row: dict[str, Any] = {"id": f"{block}-{place}", "block": block}
            for side, name in enumerate(("right", "wrong")):
                audio = f"{block}-{place}-{name}.wav"
                write_wav(folder / audio, recording(0.8 + 0.1 * (place ^ side), seed=4 * number + 2 * place + side), RATE)
                words = ["the", "lamp", "was" if place == side else "were"]
                row[name] = {"audio": audio, "prompt_seconds": 0.4, "symbols": words, "trigram_nats": None}
            with (folder / "blimp" / f"{group}.jsonl").open("a") as lines:
                lines.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    house = tmp_path_factory.mktemp("language")
    released = lean_to_end(tiny_released(), -1e9)
    save_released(released, house / "model", dtype=torch.float32)
    write_corpus(house / "corpus", released, num_train=2, num_test=1)
    write_items(house / "items")
    return house


def options(house: Path, output: Path, **others: Any) -> EvaluateOptions:
    return EvaluateOptions(corpus=house / "corpus", model=house / "model", output_dir=output, suite="language",
                           **{"language_items": [house / "items"], "max_items": 12, **others})  # fmt: skip


def test_a_report_has_every_score_of_every_group_with_its_controls(house: Path, tmp_path: Path) -> None:
    report = evaluate(options(house, tmp_path))
    suffixes = ["" if score == "sum" else f"_{score}" for score in SCORES]
    assert report.keys() == {f"syn_blimp{group}{suffix}" for group in ("", "_number", "_tense") for suffix in suffixes}
    main = report["syn_blimp"]
    assert main["n"] == 6 and "12 pairs in 6 blocks" in main["corpus"]
    assert {"shorter", "untrained", "coarse stage", "unit trigram", "chance", "by mean", "by window", "by gain"} <= main["controls"].keys()
    assert main["controls"]["shorter"] == 0.5  # each length is right once and wrong once
    assert main["low"] <= main["value"] <= main["high"]
    assert any("no texts" in reason for reason in left_out(options(house, tmp_path)))  # of the word trigram
    assert (tmp_path / "report.html").read_text().count("syn_blimp_tense") >= 1


def test_a_run_that_was_stopped_goes_on_with_the_recordings_that_are_left(house: Path, tmp_path: Path) -> None:
    whole = evaluate(options(house, tmp_path / "whole"))
    scores = tmp_path / "whole" / "suites" / "language-scores.jsonl"
    assert len(scores.read_text().splitlines()) == 24
    evaluate(options(house, tmp_path / "other"))
    other = tmp_path / "other" / "suites"
    other.joinpath("language.json").unlink()
    assert evaluate(options(house, tmp_path / "other")) == whole
    assert len(other.joinpath("language-scores.jsonl").read_text().splitlines()) == 24


def test_figures_of_other_items_are_refused_not_mixed(house: Path, tmp_path: Path) -> None:
    items = write_items(tmp_path / "items")
    evaluate(options(house, tmp_path / "out", language_items=[items]))
    index = items / "blimp" / "tense.jsonl"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(UserError, match="another language_items"):
        evaluate(options(house, tmp_path / "out", language_items=[items]))


def test_without_items_a_corpus_of_other_texts_says_what_to_do(house: Path, tmp_path: Path) -> None:
    assert evaluate(options(house, tmp_path, language_items=[])) == {}
    [reason] = left_out(options(house, tmp_path, language_items=[]))
    assert "--language-items" in reason


def judged(shorter: list[float], untrained: list[float], *, suite: str = "blimp") -> SuiteResult:
    """Figures of 40 pairs whose controls are right as often as told: 1 or 0 a pair."""
    pairs, recordings = [], {}
    for number in range(40):
        sides = []
        for place in (0, 1):
            path = Path(f"{number}-{place}")
            knows, blind = (shorter[number], untrained[number]) if place == 0 else (0.5, 0.5)
            own, fresh = dict.fromkeys(SCORES, float(place == 0)), {**dict.fromkeys(SCORES, 0.0), "sum": blind}
            recordings[path] = ScoredRecording(2.0 - knows, {"semantic": own, "untrained semantic": fresh})
            sides.append(Side(audio=path, prompt_seconds=0.5))
        pairs.append(Pair(id=str(number), block=str(number // 2), suite=suite, group="number", right=sides[0], wrong=sides[1]))
    result = SuiteResult()
    judge = _Judge(suite, "syn_blimp", "How often.", stages=["semantic"], recordings=recordings, words=None, corpus="items", seed=0)
    judge.put(result, "", pairs)
    return result


def test_a_figure_whose_controls_are_off_one_half_says_that_it_is_not_valid() -> None:
    even = [float(number % 2) for number in range(40)]
    assert not judged(even, even).left_out
    assert judged(even, even).figures["syn_blimp"].value == 1.0
    long = judged([1.0] * 34 + [0.0] * 6, even)
    assert any("syn_blimp: not valid, the shorter recording is right in 85.0 % of 40 pairs" in reason for reason in long.left_out)
    assert long.figures["syn_blimp"].meaning.startswith("Not valid: the shorter")
    learned = judged(even, [0.0] * 34 + [1.0] * 6)
    assert any("a model that has learned nothing" in reason for reason in learned.left_out)
    assert not judged([1.0] * 34 + [0.0] * 6, even, suite="sblimp").left_out  # others' data are as they are
