"""Suites on corpora of every kind, and what is kept of a run that was stopped."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_corpus
import torch
from fake_whisper import FakeWhisper, segment
from lhotse import CutSet
from spoken_corpus import write_corpus
from tiny_audio import write_librispeech
from tiny_pipeline import RATE, lean_to_end, tiny_released

from valle.corpora.librispeech import LibriSpeechConfig, prepare_librispeech
from valle.corpora.manifests import write_cuts
from valle.evaluation import evaluate as module
from valle.evaluation.continuations import Continued
from valle.evaluation.evaluate import EvaluateOptions, evaluate, left_out
from valle.evaluation.heard_words import HeardClip, words_a_second
from valle.evaluation.recogniser import Heard, Segment, WhisperRecogniser
from valle.evaluation.suite_memorised import ngram_result, runs_result
from valle.evaluation.suite_shape import shape_result
from valle.evaluation.suites import SuiteResult, SuiteSettings
from valle.inference.pipeline import Pipeline
from valle.measures.intervals import jackknife
from valle.measures.tokens import divergence
from valle.models.released import save_released
from valle.tokenizers.registry import load_tokenizer

QUICK = {"max_items": 3, "prompt_seconds": 1.0, "max_seconds": 1.5}


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without units, as for piano, and recordings without speakers or texts."""
    house = tmp_path_factory.mktemp("music")
    released = tiny_released(units=False)
    save_released(released, house / "model", dtype=torch.float32)
    corpus = write_corpus(house / "corpus", released, num_train=1, num_test=1)
    for part in ("train", "test"):
        cuts = list(CutSet.from_jsonl(corpus / f"cuts_{part}.jsonl.gz"))
        for cut in cuts:
            cut.supervisions = []
        write_cuts(cuts, corpus / f"cuts_{part}.jsonl.gz")
    return house


def flags(house: Path, out: Path, **more: Any) -> EvaluateOptions:
    return EvaluateOptions(**{"corpus": house / "corpus", "model": house / "model", "output_dir": out, **QUICK, **more})


def test_a_model_without_units_is_measured_without_language_figures(music: Path, tmp_path: Path) -> None:
    options = flags(music, tmp_path / "out")
    report = evaluate(options)
    assert {"codec_stoi", "silence_share", "distinct_codes", "self_bleu"} <= report.keys()
    assert not [name for name in report if name.startswith(("abx", "pnmi", "voice", "wer", "words", "longest", "distinct_units"))]
    reasons = "\n".join(left_out(options))
    expected = "units: the model has none", "voice_kept", "longest_run_in_train: the model has no units", "detector: it knows speech"
    assert all(what in reasons for what in expected)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "How often each code occurs" in page and page.count("<audio") == 9
    assert len(list((tmp_path / "out" / "sounds").glob("*.flac"))) == 9 and list((tmp_path / "out" / "tensorboard").iterdir())


def test_the_report_of_a_librispeech_folder_has_word_errors_and_says_what_needs_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"train-a": ("11", "12"), "test-a": ("31", "32")}
    utterances = {f"{part}/{speaker}-1-000{number}": 3.0 for part, speakers in parts.items() for speaker in speakers for number in (0, 1)}
    folder = write_librispeech(tmp_path / "libri", utterances)
    prepare_librispeech(LibriSpeechConfig(
        corpus_dir=folder, output_dir=tmp_path / "corpus", train_parts=["train-a"], dev_parts=["test-a"]
    ))  # fmt: skip
    save_released(lean_to_end(tiny_released(), -1e9), tmp_path / "model", dtype=torch.float32)
    heard = WhisperRecogniser(FakeWhisper(lambda audio: [segment("words of nothing")]), name="fake")
    monkeypatch.setattr(module, "whisper_recogniser", lambda name, language: heard)
    options = flags(tmp_path, tmp_path / "out", suite="continuation", whisper="fake", max_items=2)
    report = evaluate(options)
    assert {"wer_original", "wer_acoustic", "words_per_second_continuation", "memorised_continuation", "distinct_units"} <= report.keys()
    reasons = "\n".join(left_out(options))
    assert all(what in reasons for what in ("voice_kept", "words_in_lexicon", "longest_run_in_train"))


def test_a_run_that_was_stopped_goes_on_with_the_suite_it_was_in(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(settings: SuiteSettings, progress: Any) -> SuiteResult:
        (tmp_path / "out" / "sounds").mkdir()
        (tmp_path / "out" / "sounds" / "0000-continuation.flac").write_bytes(b"half a file")
        raise KeyboardInterrupt

    suites = dict(module.SUITES)
    monkeypatch.setattr(module, "SUITES", {**suites, "continuation": stopped})
    with pytest.raises(KeyboardInterrupt):
        evaluate(flags(music, tmp_path / "out"))
    kept = {path.stem: path.read_bytes() for path in (tmp_path / "out" / "suites").glob("*.json")}
    assert kept.keys() == {"codec", "units", "lm", "language"} and not (tmp_path / "out" / "report.json").exists()
    monkeypatch.setattr(module, "SUITES", {**suites, **dict.fromkeys(kept, stopped)})
    assert "silence_share" in evaluate(flags(music, tmp_path / "out"))
    assert all((tmp_path / "out" / "suites" / f"{name}.json").read_bytes() == content for name, content in kept.items())
    assert (tmp_path / "out" / "sounds" / "0000-continuation.flac").read_bytes()[:4] == b"fLaC"


def test_tensorboard_files_of_others_stay(music: Path, tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "events.mine").write_text("mine")
    evaluate(flags(music, tmp_path / "out", suite="codec", tensorboard=tmp_path / "board", step=3))
    assert (tmp_path / "board" / "events.mine").read_text() == "mine" and len(list((tmp_path / "board").iterdir())) == 2
    assert not (tmp_path / "out" / "tensorboard").exists()


def continued(name: str, new: list[int], real: list[int], *, prompt: float = 1.0) -> Continued:
    """Units as given, and sound that fades by half from its first to its second second in what was generated."""
    loud = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    start = [loud] * round(prompt)
    said = np.concatenate([*start, loud, loud])
    return Continued(
        cut=type("Cut", (), {"id": name})(), continuation=np.concatenate([*start, loud, loud / 2]), recording=said, codec=said,
        prompt_samples=RATE, judged_from=RATE, prompt_units=torch.tensor([7]), new_units=torch.tensor(new), real_units=torch.tensor(real),
        new_codes=torch.tensor(new), real_codes=torch.tensor(real),
    )  # fmt: skip


def test_variety_drift_and_histograms_are_what_a_hand_computes() -> None:
    rows = [continued(f"clip-{number}", [1, 1, 2, 2, 1], [1, 2, 3, 4]) for number in range(4)]
    result = shape_result(rows, Pipeline(tiny_released()).timeline, RATE, corpus="corpus")
    values = {name: figure.value for name, figure in result.figures.items()}
    assert values["distinct_units"] == pytest.approx(2 / 3) and result.figures["distinct_units"].controls["real speech"] == 1
    assert values["level_drift"] == pytest.approx(-6.02, abs=0.01)
    assert result.figures["level_drift"].controls["real speech"] == pytest.approx(0, abs=1e-6)
    assert result.figures["self_bleu"].controls["real speech"] == pytest.approx(1)
    # new: 1 in 3 of 5 and 2 in 2 of 5; real: 1, 2, 3, 4 in a quarter each.
    expected = divergence(np.array([0, 3, 2, 0, 0]), np.array([0, 1, 1, 1, 1]))
    assert values["unit_divergence"] == pytest.approx(expected) and 0 < expected < 1
    assert result.figures["unit_divergence"].controls["real speech, other half"] == pytest.approx(0)
    titles = {chart.title: chart for chart in result.charts}
    lasts = titles["How long a unit lasts"].series
    assert lasts[0].values[:2] == pytest.approx([100 / 3, 200 / 3]) and lasts[1].values[0] == 100
    assert titles["Level by second"].series[0].values == pytest.approx([0, -6.02], abs=0.01)


def test_divergence_is_zero_for_the_same_and_one_bit_for_disjoint_counts() -> None:
    assert divergence(np.array([2, 2]), np.array([5, 5])) == pytest.approx(0)
    assert divergence(np.array([1, 0]), np.array([0, 9])) == pytest.approx(1)
    assert np.isnan(divergence(np.array([0, 0]), np.array([1, 0])))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).random(20)
    found = jackknife(lambda kept: float(values[kept].mean()), 20)
    assert found.high - found.mean == pytest.approx(1.959964 * values.std(ddof=1) / np.sqrt(20))


def test_runs_of_units_are_found_in_the_training_part_and_others_are_not(tmp_path: Path) -> None:
    """The tiny corpus's units count up from 0 to 11 again and again."""
    corpus = tiny_corpus.write_corpus(tmp_path / "corpus", tiny_corpus.Corpus(num_train=6, shortest=2.0))
    semantic = load_tokenizer(str(tmp_path / "corpus" / "tokenizers" / "semantic"))
    released = replace(tiny_released(), semantic=semantic)
    settings = SuiteSettings(pipeline=Pipeline(released), model_source=tmp_path, corpus=corpus)
    upwards = [number % 12 for number in range(30)]
    rows = [continued("one", upwards, upwards[::-1]), continued("two", [*upwards[:5], 9, 9, 9, *upwards[:9]], [3])]
    figure = runs_result(settings, rows, corpus="corpus", progress=lambda done, wanted: None).figures["longest_run_in_train"]
    assert figure.named is not None and figure.named.items.parts == (30, 9) and figure.controls["real speech"] == 1
    assert "h searched" in figure.definition
    other = SuiteSettings(pipeline=Pipeline(tiny_released()), model_source=tmp_path, corpus=corpus)
    [reason] = runs_result(other, rows, corpus="corpus", progress=lambda done, wanted: None).left_out
    assert "the corpus's units are tiny-units" in reason


def test_five_heard_words_in_a_row_are_looked_for_in_the_training_texts(music: Path, tmp_path: Path) -> None:
    cuts = list(CutSet.from_jsonl(write_corpus(tmp_path / "corpus", tiny_released(), num_train=1) / "cuts_train.jsonl.gz"))
    for cut in cuts:
        cut.supervisions[0].text = "Anna found the green bottle yesterday."
    write_cuts(cuts, tmp_path / "corpus" / "cuts_train.jsonl.gz")
    settings = SuiteSettings(pipeline=Pipeline.from_pretrained(music / "model"), model_source=music, corpus=tmp_path / "corpus")
    clips = [
        HeardClip(f"clip-{number}", 2.0, Heard((Segment(text, -0.3, 1.3, 0.1),)))
        for number, text in enumerate(["so Anna found the green bottle", "Anna found the red bottle"])
    ]
    figures = ngram_result(settings, {"continuation": clips, "real speech": clips[1:]}, corpus="corpus").figures
    # Of the first clip's two 5-grams one stands in train, of the second clip's one none.
    assert figures["memorised_continuation"].value == pytest.approx(1 / 3) and figures["memorised_real"].value == 0
    assert figures["memorised_real"].is_control and not figures["memorised_continuation"].is_control
    assert words_a_second(clips).mean == pytest.approx(11 / 4)
    nothing = ngram_result(SuiteSettings(**{**vars(settings), "corpus": music / "corpus"}), {"continuation": clips}, corpus="")
    assert "no texts" in nothing.left_out[0] and json.loads(json.dumps(nothing.left_out))
