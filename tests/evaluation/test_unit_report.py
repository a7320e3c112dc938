"""Reports on units: phones at their frames, controls beside every figure, honest gaps, and the choice of layer and number."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import MonoCut
from lhotse.utils import fastcopy
from tiny_speech import TONES, babble, tiny_encoder, tiny_hubert, write_spoken

from valle.bin import evaluate_units as program
from valle.errors import run_program
from valle.evaluation.evaluate_units import EvaluateUnitsOptions, evaluate_units
from valle.evaluation.unit_corpus import EncodedCorpus, UnitReportError, choose_cuts, encode_cuts, frames_within
from valle.evaluation.unit_report import abx, unit_report, unit_table
from valle.measures.abx import abx_unit_error, every_triple
from valle.models.checkpoint import plain, save_checkpoint
from valle.models.speech_objectives import HubertObjective
from valle.tokenizers.registry import load_semantic, save_tokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spoken parts, units of random weights, and a run of the trainer's as far as its encoder goes."""
    folder = tmp_path_factory.mktemp("spoken")
    for seed, (part, count) in enumerate((("train", 30), ("dev", 18), ("test", 24))):
        write_spoken(folder / f"cuts_{part}.jsonl.gz", num_cuts=count, seed=1000 * seed)
    write_spoken(folder / "real" / "cuts_test.jsonl.gz", num_cuts=6, seed=7, phones=False)
    save_tokenizer(tiny_hubert(), folder / "units")
    encoder = tiny_encoder()
    state = {"model": HubertObjective(encoder, [4]).state_dict(), "encoder": plain(vars(encoder.config))}
    save_checkpoint(folder / "exp" / "best-valid-loss.pt", state)
    return folder


def encoded(corpus: Path, part: str = "test") -> EncodedCorpus:
    cuts = choose_cuts(corpus / f"cuts_{part}.jsonl.gz", max_seconds=1e9, unseen_voices=False)
    return encode_cuts(load_semantic(str(corpus / "units")), cuts)


def test_frames_of_a_phone_are_those_whose_middles_lie_in_it() -> None:
    assert frames_within(0.1, 0.2, 0.02, 80) == (5, 10)
    assert frames_within(0.105, 0.135, 0.02, 80) == (5, 7)  # middles at 0.11 and 0.13
    assert frames_within(0.112, 0.118, 0.02, 80) == (5, 6)  # none: the one that it lies in
    assert frames_within(1.595, 1.7, 0.02, 80) == (79, 80) and frames_within(2.0, 2.1, 0.02, 80) == (79, 80)


def test_items_have_the_phones_neighbours_and_frames(corpus: Path) -> None:
    found = encoded(corpus)
    items = found.items("phone")
    assert len(items) == 24 * 16 and {item.phone for item in items} == set(TONES)
    for number, item in enumerate(items):
        cut, place = divmod(number, 16)
        assert (item.start, item.stop) == (80 * cut + 5 * place, 80 * cut + 5 * place + 5)
        assert item.speaker == f"voice {cut % 3}"
        assert item.before == ("#" if place == 0 else items[number - 1].phone)
        assert item.after == ("#" if place == 15 else items[number + 1].phone)
    triphones = found.items("triphone")
    assert len(triphones) == 24 * 14 and all(item.stop - item.start == 15 and "#" not in (item.before, item.after) for item in triphones)


def test_between_any_neighbours_phones_of_small_corpora_can_be_compared(corpus: Path) -> None:
    tokenizer = load_semantic(str(corpus / "units"))
    cuts = choose_cuts(corpus / "cuts_test.jsonl.gz", max_seconds=8 * 1.6, unseen_voices=False)
    found = encode_cuts(tokenizer, cuts)
    assert {(item.before, item.after) for item in found.items("phone", "any")} == {("#", "#")}
    assert [(item.phone, item.start) for item in found.items("phone", "any")] == [(item.phone, item.start) for item in found.items("phone")]
    same, any_ = (unit_report(tokenizer.identity, found, context=context, num_triples=400) for context in ("same", "any"))
    assert any_["abx"]["across"]["units"]["cells"] == 3 * 4 * 3  # of each voice, every phone against every other
    assert any_["abx"]["across"]["permuted_units"]["mean"] == pytest.approx(0.5, abs=0.1) and any_["abx_context"] == "any"
    assert (
        "between any neighbours" in unit_table("small", [any_]).note and "between the same neighbours" in unit_table("small", [same]).note
    )


def test_phones_that_were_hardly_found_are_neighbours_and_not_scored(corpus: Path) -> None:
    cuts = choose_cuts(corpus / "cuts_test.jsonl.gz", max_seconds=1e9, unseen_voices=False)
    doubtful = [
        fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], alignment={"phone": [
            item._replace(score=0.2 if place % 4 == 1 else 0.9) for place, item in enumerate(cut.supervisions[0].alignment["phone"])
        ]})])
        for cut in cuts
    ]  # fmt: skip
    tokenizer = load_semantic(str(corpus / "units"))
    everything, sure = (encode_cuts(tokenizer, doubtful, min_confidence=least) for least in (0.0, 0.5))
    assert sure.items("phone") == [item for place, item in enumerate(everything.items("phone")) if place % 4 != 1]
    heard, _ = sure.phone_frames()
    assert (heard[0] == -1).reshape(-1, 5).all(1).tolist() == [place % 4 == 1 for place in range(16)]
    report = unit_report(tokenizer.identity, sure, num_triples=100)
    assert report["min_confidence"] == 0.5 and "confidence of 0.5 or more" in unit_table("test", [report]).note
    assert unit_report(tokenizer.identity, encode_cuts(tokenizer, cuts, min_confidence=1.0), num_triples=50)["purity"]["frames"] == 24 * 80


def test_frames_bear_the_phone_at_their_middle(corpus: Path) -> None:
    labels, names = encoded(corpus).phone_frames()
    items = encoded(corpus).items("phone")
    assert names == sorted(TONES)
    assert [names[label] for label in np.concatenate(labels)] == [item.phone for item in items for _ in range(5)]


def test_every_figure_has_its_control_and_interval(corpus: Path) -> None:
    tokenizer = load_semantic(str(corpus / "units"))
    report = json.loads(json.dumps(unit_report(tokenizer.identity, encoded(corpus), num_triples=800)))
    for scores in report["abx"].values():
        for name in ("units", "features"):
            assert scores[name]["low"] <= scores[name]["mean"] <= scores[name]["high"] < 0.4
            assert scores[f"permuted_{name}"]["mean"] == pytest.approx(0.5, abs=0.1)
            assert scores[name]["triples"] > 100
    told = report["purity"]
    assert told["low"] <= told["pnmi"] <= told["high"] and told["permuted"]["pnmi"] < 0.2 < told["pnmi"] and told["frames"] == 24 * 80
    assert report["speaker_probe"]["speakers"] == 3 and report["speaker_probe"]["chance"] == pytest.approx(1 / 3)
    assert 1 < report["perplexity"] <= 20 and report["bits_per_second"]["bigram"] < report["bits_per_second"]["unigram"]
    assert report["right_context_seconds"] == 14 * 0.02 and report["abx_span"] == "phone"


def test_all_triphones_can_be_compared_and_both_means_are_named(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = encoded(corpus)
    scores = abx(found, "triphone", "same", across=True, num_triples=0, seed=0)
    items = found.items("triphone")
    triples = every_triple(items, across=True, most=10**6)
    wanted = abx_unit_error(items, triples, np.concatenate(found.units), found.centroids)
    assert scores["units"]["triples"] == len(triples) and scores["units"]["mean"] == wanted.error.mean
    assert scores["units"]["flat"]["mean"] == wanted.flat.mean != wanted.error.mean
    monkeypatch.setattr("valle.evaluation.unit_report.MOST_TRIPLES", 10)
    with pytest.raises(UnitReportError, match="at most 10 ABX triples where all are asked for"):
        abx(found, "triphone", "same", across=True, num_triples=0, seed=0)


def test_a_table_of_older_reports_says_that_its_mean_is_flat(corpus: Path) -> None:
    tokenizer = load_semantic(str(corpus / "units"))
    report = unit_report(tokenizer.identity, encoded(corpus), num_triples=50)
    older = {name: value for name, value in report.items() if name != "abx_mean"}
    assert "flat mean" not in unit_table("now", [report]).note and "flat mean over cells" in unit_table("before", [older]).note


def test_the_speaker_probe_is_by_chapter_and_left_out_where_speakers_have_one(corpus: Path) -> None:
    cuts = choose_cuts(corpus / "cuts_test.jsonl.gz", max_seconds=1e9, unseen_voices=False)
    tokenizer = load_semantic(str(corpus / "units"))

    def read_in(chapters: int) -> list[MonoCut]:
        """The same cuts as of LibriSpeech, the n-th of a speaker from chapter n modulo ``chapters``."""
        named = []
        for number, cut in enumerate(cuts):
            speaker, own = number % 3 + 10, f"{number % 3 + 10}-{number // 3 % chapters}-{number:04}"
            supervision = fastcopy(cut.supervisions[0], speaker=str(speaker))
            named.append(fastcopy(cut, id=own, recording=fastcopy(cut.recording, id=own), supervisions=[supervision]))
        return named

    one, two = (unit_report(tokenizer.identity, encode_cuts(tokenizer, read_in(chapters)), num_triples=20) for chapters in (1, 2))
    assert "one the room tells the speaker too" in one["speaker_probe"]["left_out"]
    assert "one the room tells the speaker too" in unit_table("real", [one]).note
    assert two["speaker_probe"]["accuracy"]["count"] == 12 and two["speaker_probe"]["split"] == "chapters or recordings"


def test_without_phone_times_no_abx_is_made_up(corpus: Path) -> None:
    cuts = choose_cuts(corpus / "real" / "cuts_test.jsonl.gz", max_seconds=1e9, unseen_voices=False)
    tokenizer = load_semantic(str(corpus / "units"))
    report = unit_report(tokenizer.identity, encode_cuts(tokenizer, cuts))
    assert "no phone times" in report["abx"]["across"]["left_out"] and "no phone times" in report["purity"]["left_out"]
    assert report["speaker_probe"]["speakers"] == 3
    assert "Left out: the manifest has no phone times" in unit_table("real", [report]).note


def test_cuts_are_drawn_without_regard_to_their_order_and_up_to_a_length(corpus: Path) -> None:
    manifest = corpus / "cuts_test.jsonl.gz"
    some = choose_cuts(manifest, max_seconds=11.5 * 1.6, unseen_voices=False)
    assert len(some) == 12 and len({cut.supervisions[0].speaker for cut in some}) == 3
    assert [cut.id for cut in some] == [cut.id for cut in choose_cuts(manifest, max_seconds=11.5 * 1.6, unseen_voices=False)]
    unseen = choose_cuts(manifest, max_seconds=1e9, unseen_voices=True)
    assert {cut.supervisions[0].speaker for cut in unseen} == {"voice 2"} and len(unseen) == 8


def options(corpus: Path, **changes: object) -> EvaluateUnitsOptions:
    paths = {
        name: corpus / f"cuts_{part}.jsonl.gz"
        for name, part in (("manifest", "test"), ("fit_manifest", "train"), ("choose_manifest", "dev"))
    }
    return EvaluateUnitsOptions(**{**paths, "num_triples": 300, "max_minutes": 1.0, "fit_minutes": 1.0, **changes})  # type: ignore[arg-type]


def test_the_layer_and_number_with_the_fewest_errors_on_dev_are_kept(corpus: Path, tmp_path: Path) -> None:
    run = options(
        corpus, exp_dir=corpus / "exp", layers=[1, 3], num_units=[8, 24], output_dir=tmp_path / "best", left=20, right=5, window=10
    )
    result = evaluate_units(run)
    errors = [row["abx_across"]["units"]["mean"] for row in result["choice"]]
    chosen = [row for row in result["choice"] if row.get("chosen")]
    assert [(row["layer"], row["num_units"]) for row in result["choice"]] == [(1, 8), (1, 24), (3, 8), (3, 24)]
    assert len(chosen) == 1 and chosen[0]["abx_across"]["units"]["mean"] == min(errors)
    kept = load_semantic(str(tmp_path / "best"))
    assert kept.num_units == chosen[0]["num_units"] and kept.config()["encoder"]["num_layers"] == chosen[0]["layer"]
    assert result["reports"][0]["tokenizer"] == str(kept.identity) and kept.config()["right"] == 5
    wav = torch.from_numpy(babble(1.0, seed=1))[None]
    assert len(kept.encode(wav, torch.tensor([16000]))[0].unique()) > 3


def test_one_layer_and_number_need_no_phone_times(corpus: Path, tmp_path: Path) -> None:
    real = corpus / "real" / "cuts_test.jsonl.gz"
    run = options(corpus, exp_dir=corpus / "exp", layers=[2], num_units=[8], output_dir=tmp_path, choose_manifest=real, manifest=real)
    assert evaluate_units(run)["choice"][0]["chosen"]
    with pytest.raises(UnitReportError, match="one layer and one number"):
        evaluate_units(options(corpus, exp_dir=corpus / "exp", layers=[1, 2], num_units=[8], output_dir=tmp_path, choose_manifest=real))


def test_the_program_prints_a_row_a_tokenizer_and_writes_json(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--tokenizers", str(corpus / "units"), "mfcc-kmeans", "--manifest", str(corpus / "cuts_test.jsonl.gz"), "--num-triples", "100"]
    monkeypatch.setattr(sys, "argv", ["evaluate_units.py", *flags, "--voices", "unseen", "--output", str(tmp_path / "units.json")])
    program.main()
    lines = capsys.readouterr().out.splitlines()
    assert "ABX across, units" in lines[1] and lines[2].strip().startswith("hubert (") and lines[3].strip().startswith("mfcc-kmeans (")
    written = json.loads((tmp_path / "units.json").read_text())
    assert [report["num_units"] for report in written["reports"]] == [20, 200] and written["voices"] == "unseen"


def test_mistakes_are_one_sentence(corpus: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    here, test = ["--tokenizers", str(corpus / "units")], ["--manifest", str(corpus / "cuts_test.jsonl.gz")]
    for flags, words in (
        ([], "found neither"),
        (["--exp-dir", str(corpus / "exp")], "expected an --output-dir"),
        ([*here, "--manifest", "nothing.jsonl.gz"], "found nothing there"),
        ([*here, *test, "--num-triples", "-1"], "--num-triples must be 0 (all) or more"),
        (["--tokenizers", "valle-16khz", *test], "which is a codec"),
    ):
        monkeypatch.setattr(sys, "argv", ["evaluate_units.py", *flags])
        with pytest.raises(SystemExit) as caught:
            run_program(program.main)
        assert caught.value.code == 2 and words in capsys.readouterr().err


def test_units_may_be_fitted_on_features_as_they_are(corpus: Path, tmp_path: Path) -> None:
    given = {"exp_dir": corpus / "exp", "layers": [2], "num_units": [8]}
    both = evaluate_units(options(corpus, **given, standardise="both", output_dir=tmp_path / "both"))["choice"]
    assert [row["standardised"] for row in both] == [True, False] and [row.get("chosen") for row in both].count(True) == 1
    (row,) = evaluate_units(options(corpus, **given, standardise="false", output_dir=tmp_path / "plain"))["choice"]
    assert row == {**both[1], "chosen": True}
    kept = load_semantic(str(tmp_path / "plain"))
    assert not kept.mean.any() and (kept.deviation == 1).all() and kept.centroids.std() > 0
