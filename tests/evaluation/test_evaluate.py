import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_corpus
import torch
from fake_whisper import FakeWhisper, segment
from lhotse import CutSet
from spoken_corpus import write_corpus
from tiny_pipeline import lean_to_end, tiny_released

from valle.corpora.manifests import write_cuts
from valle.errors import UserError
from valle.evaluation import evaluate as module
from valle.evaluation.continuations import continue_cuts, guard_seconds, shuffled_runs
from valle.evaluation.evaluate import EvaluateOptions, evaluate, left_out, report_tables
from valle.evaluation.figures import Figure
from valle.evaluation.recogniser import WhisperRecogniser
from valle.evaluation.report_page import draw, write_report_page
from valle.evaluation.suite_words import choose_lexicon
from valle.evaluation.suites import SuiteResult, SuiteSettings, lm_suite
from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.models.released import save_released

KEYS = {"value", "low", "high", "n", "controls", "corpus", "definition"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released model, and a corpus of three voices whose utterances have texts of the embedded grammar."""
    house = tmp_path_factory.mktemp("evaluate")
    released = lean_to_end(tiny_released(), -1e9)
    save_released(released, house / "model", dtype=torch.float32)
    corpus = write_corpus(house / "corpus", released, num_train=3, num_test=1)
    cuts = list(CutSet.from_jsonl(corpus / "cuts_test.jsonl.gz"))
    for cut in cuts:
        cut.supervisions[0].text = "Anna found the green bottle."
    write_cuts(cuts, corpus / "cuts_test.jsonl.gz")
    return house


def hears(audio: np.ndarray) -> list[Any]:
    return [segment("Anna found the green zebra.")]


@pytest.fixture
def options(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Flags of a quick run with a recogniser that always hears the same."""
    without = {name: suite for name, suite in module.SUITES.items() if name not in ("language", "safety")}  # with tests of their own
    monkeypatch.setattr(module, "SUITES", without)
    monkeypatch.setattr(module, "whisper_recogniser", lambda name, language: WhisperRecogniser(FakeWhisper(hears), name=name))
    return {"corpus": house / "corpus", "model": house / "model", "output_dir": tmp_path / "out", "max_items": 3, "prompt_seconds": 1.0,
            "max_seconds": 1.5, "whisper": "whisper-fake"}  # fmt: skip


def test_a_report_holds_every_figure_with_interval_controls_corpus_and_definition(options: dict[str, Any]) -> None:
    report = evaluate(EvaluateOptions(**options))
    assert json.loads((options["output_dir"] / "report.json").read_text()) == report
    expected = {
        "codec_stoi", "voice_kept", "silence_share", "wer_original", "wer_codec", "wer_acoustic", "cer_acoustic",
        "words_in_lexicon_real", "words_in_lexicon_codec", "words_in_lexicon_continuation", "words_in_lexicon_babble",
        "words_score_continuation", "word_rate_score_continuation", "trigrams_allowed_continuation", "longest_copy_of_prompt",
    }  # fmt: skip
    assert expected <= report.keys()
    for name, row in report.items():
        assert row.keys() >= KEYS and row["n"] >= 1 and row["controls"] and row["meaning"].endswith("."), name
    assert report["wer_original"]["value"] == pytest.approx(1 / 5) == report["wer_acoustic"]["controls"]["babble"]
    assert report["words_in_lexicon_continuation"]["value"] == pytest.approx(4 / 5)
    assert report["words_score_continuation"]["value"] is None  # babble is heard as well as real speech
    reasons = left_out(EvaluateOptions(**options))
    assert all(any(reason.startswith(name) for reason in reasons) for name in ("nll", "abx_across", "pnmi", "unit_speaker_probe"))
    [table] = report_tables(EvaluateOptions(**options), report)
    assert {row[0] for row in table.rows} == {name for name, values in report.items() if not values["is_control"]}


def test_a_finished_suite_is_kept_and_not_measured_again(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate(EvaluateOptions(**{**options, "suite": "codec"}))
    measured = list[str]()
    suites = {name: lambda settings, progress, name=name: measured.append(name) or SuiteResult() for name in module.SUITES}
    monkeypatch.setattr(module, "SUITES", suites)
    again = evaluate(EvaluateOptions(**options))
    assert measured == ["units", "lm", "continuation"] and again == first


def test_figures_of_another_model_are_refused_not_mixed(options: dict[str, Any], house: Path, tmp_path: Path) -> None:
    codec = {**options, "suite": "codec"}
    evaluate(EvaluateOptions(**codec))
    other = tiny_released()
    other.model.semantic.head.weight.data += 1.0
    save_released(other, tmp_path / "other", dtype=torch.float32)
    with pytest.raises(UserError, match="another model_sha256"):
        evaluate(EvaluateOptions(**{**codec, "model": tmp_path / "other"}))
    with pytest.raises(UserError, match="another max_items"):
        evaluate(EvaluateOptions(**{**codec, "max_items": 2}))


def test_without_a_recogniser_words_are_left_out_with_a_reason(options: dict[str, Any]) -> None:
    report = evaluate(EvaluateOptions(**{**options, "suite": "continuation", "whisper": None}))
    assert "voice_kept" in report and not any(name.startswith(("wer", "words")) for name in report)
    assert any("--whisper FOLDER" in reason for reason in left_out(EvaluateOptions(**{**options, "suite": "continuation"})))


def test_nobodys_file_is_written_over(options: dict[str, Any]) -> None:
    options["output_dir"].mkdir()
    (options["output_dir"] / "report.html").write_text("mine")
    with pytest.raises(UserError, match="another file"):
        evaluate(EvaluateOptions(**options))
    assert (options["output_dir"] / "report.html").read_text() == "mine"


def test_only_what_was_generated_is_handed_to_judges(house: Path) -> None:
    pipeline = Pipeline.from_pretrained(house / "model")
    cuts = list(CutSet.from_jsonl(house / "corpus" / "cuts_test.jsonl.gz"))
    rows = continue_cuts(pipeline, cuts, ContinueSettings(prompt_seconds=1.0, max_seconds=1.5), batch_size=2)
    first = round((1.0 + guard_seconds(pipeline)) * pipeline.sample_rate)
    for row in rows:
        whole = row.cut.load_audio()[0]
        assert np.array_equal(row.real, whole[first : round(2.5 * pipeline.sample_rate)])
        assert len(row.generated) == len(row.real) == len(row.round_trip)
        assert row.prompt_units is not None and row.new_units is not None and row.real_units is not None
        assert len(row.prompt_units) == 25 and abs(len(row.new_units) - len(row.real_units)) <= 2


def test_the_lexicon_is_the_embedded_one_for_texts_of_its_words_or_a_file(tmp_path: Path) -> None:
    embedded = choose_lexicon(None, ["Anna found 24 lamps.", "The farmer ran."])
    assert embedded is not None and "farmer" in embedded[0] and embedded[1] is not None
    assert choose_lexicon(None, ["He hoped there would be stew."]) is None and choose_lexicon(None, [""]) is None
    (tmp_path / "words.txt").write_text("Stew\nTurnips\n")
    assert choose_lexicon(str(tmp_path / "words.txt"), ["He hoped."]) == ({"stew", "turnips"}, None)
    with pytest.raises(UserError, match="--lexicon"):
        choose_lexicon(str(tmp_path / "nothing.txt"), [])


def test_babble_has_the_units_and_durations_of_speech_in_another_order() -> None:
    units = torch.tensor([1, 1, 1, 5, 5, 2, 7, 7, 7, 7])
    babble = shuffled_runs(units, seed=0)
    assert sorted(babble.tolist()) == sorted(units.tolist()) and babble.tolist() != units.tolist()
    values, counts = torch.unique_consecutive(babble, return_counts=True)
    assert sorted(zip(values.tolist(), counts.tolist(), strict=True)) == [(1, 3), (2, 1), (5, 2), (7, 4)]


def test_nll_by_stage_has_intervals_over_cuts_and_the_unigram_beside_it(tmp_path: Path) -> None:
    save_released(tiny_released(), tmp_path / "model", dtype=torch.float32)
    corpus = tiny_corpus.write_corpus(tmp_path / "corpus", tiny_corpus.Corpus(num_train=4, num_dev=5))
    pipeline = Pipeline.from_pretrained(tmp_path / "model")
    result = lm_suite(SuiteSettings(pipeline=pipeline, model_source=tmp_path / "model", corpus=corpus), lambda title, done, wanted: None)
    assert not result.left_out and result.figures.keys() >= {"nll_semantic", "nll_coarse", "nll_fine_1", "bits_per_second_semantic"}
    for figure in result.figures.values():
        assert figure.n == 5 and figure.low < figure.value < figure.high and figure.controls["unigram"] > 0


FIGURE = Figure(value=0.5, low=0.4, high=0.65, n=12, corpus="<b>corpus</b>", definition="how & what", meaning="A plain sentence.", unit="%",
                controls={"real speech": 0.9, "<script>": 0.1})  # fmt: skip


def test_the_page_is_self_contained_escaped_and_draws_intervals_and_controls(tmp_path: Path) -> None:
    result = SuiteResult({"voice_kept": FIGURE}, ["nll: no <tokens>"])
    write_report_page(tmp_path / "report.html", {"continuation": result}, model="<model>")
    page = (tmp_path / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=(?!\"#)|https?://|@import|url\(", page)
    assert "<script" not in page and "<b>corpus" not in page and "<tokens>" not in page and "<model>" not in page
    assert "A plain sentence." in page and "40.0 % to 65.0 %" in page and page.count('class="band"') == 1 and page.count('class="dot"') == 3
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_places_on_the_axis_keep_the_order_of_the_values() -> None:
    model, real, chance = draw("voice_kept", FIGURE).rows
    assert model.low is not None and model.high is not None and model.place is not None
    assert real.place is not None and chance.place is not None
    assert 0 < chance.place < model.low < model.place < model.high < real.place < 100


def test_a_figure_without_numbers_is_shown_as_none(tmp_path: Path) -> None:
    empty = Figure(value=float("nan"), low=float("nan"), high=float("nan"), n=0, corpus="", definition="", meaning="Nothing.")
    assert Figure.from_dict(json.loads(json.dumps(empty.to_dict()))).shown(empty.value) == "-" and not empty.has_interval
    write_report_page(tmp_path / "report.html", {"codec": SuiteResult({"x": empty})}, model="m")
    assert 'class="dot"' not in (tmp_path / "report.html").read_text()
