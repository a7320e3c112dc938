"""From transcripts to phone times by the program, its rounds, and the report on how good the times are."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from lhotse import CutSet
from lhotse.testing.dummies import dummy_cut, dummy_supervision
from tiny_spoken_texts import write_spoken_texts

from benchmarks.alignment import AlignmentOptions, bench_alignment
from benchmarks.figures import BLOCKS
from valle.bin import align_phones as program
from valle.errors import run_program
from valle.evaluation import align_phones as module
from valle.evaluation.align_phones import AlignError, AlignOptions, align_phones, text_of, timed_cut
from valle.evaluation.alignment_report import boundary_figures, compared, guessed, retimed, rivals, words_with_phones
from valle.evaluation.unit_corpus import phones_of
from valle.models.phone_aligner import Aligned, AlignedPhone


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech with times, recordings without, and an aligner that a few steps have trained in two rounds."""
    folder = tmp_path_factory.mktemp("texts")
    write_spoken_texts(folder / "timed.jsonl.gz", num_cuts=21)
    write_spoken_texts(folder / "recordings.jsonl.gz", num_cuts=3, times=False, first=21)
    align_phones(options(folder))
    return folder


def options(folder: Path, **changes: object) -> AlignOptions:
    usual = {
        "manifests": [folder / "recordings.jsonl.gz"], "output_dir": folder / "aligned", "aligner_dir": folder / "aligner",
        "timed_manifest": folder / "timed.jsonl.gz", "recordings": folder / "recordings.jsonl.gz", "rounds": 1, "steps": 3,
        "round_steps": 2,
    }  # fmt: skip
    return AlignOptions(**{**usual, **changes})  # type: ignore[arg-type]


def test_every_phone_of_the_text_has_its_time_in_order(corpus: Path) -> None:
    cuts = list(CutSet.from_jsonl_lazy(corpus / "aligned" / "cuts.jsonl.gz"))
    assert len(cuts) == 3
    for cut in cuts:
        phones = phones_of(cut)
        assert len(phones) > 20 and all(begin >= 0 and end <= cut.duration + 0.01 for _, begin, end in phones)
        assert all(one[2] <= other[1] + 1e-6 for one, other in pairwise(phones))
        words = cut.supervisions[0].alignment["word"]
        assert " ".join(word.symbol for word in words) == text_of(cut).lower().replace(".", "")
        starts = {round(begin, 4) for _, begin, _ in phones}
        assert all(word.start in starts and 0 <= word.score <= 1 for word in words)
        exact = next(other for other in CutSet.from_jsonl_lazy(corpus / "timed.jsonl.gz") if text_of(other).upper() == text_of(cut))
        assert [symbol for symbol, _, _ in phones] == [symbol for symbol, _, _ in phones_of(exact)]


def test_the_manifest_says_how_it_was_made(corpus: Path) -> None:
    info = json.loads((corpus / "aligned" / "info.json").read_text())
    assert info["cuts"] == 3 and info["left_out"] == [] and info["stand_ins"] == {} and info["accent"] == "en-us"
    assert info["aligner"]["round"] == 1 and info["aligner"]["round_steps"] == 2 and info["aligner"]["loss_nats"] > 0
    assert info["mean_score"] <= 0 < info["mean_confidence"] <= 1


def test_rounds_that_are_there_are_not_trained_again(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fit", None)  # calling it would raise
    align_phones(options(corpus, output_dir=tmp_path))
    assert (tmp_path / "cuts.jsonl.gz").read_bytes() == (corpus / "aligned" / "cuts.jsonl.gz").read_bytes()


def test_an_aligner_of_other_settings_is_refused(corpus: Path) -> None:
    with pytest.raises(AlignError, match=r"the same --round-steps; name another --aligner-dir"):
        align_phones(options(corpus, round_steps=3))


def test_what_scores_below_the_limit_is_left_out_with_its_score(corpus: Path, tmp_path: Path) -> None:
    info = align_phones(options(corpus, output_dir=tmp_path, min_score=0.0))
    assert info["cuts"] == 0 and len(info["left_out"]) == 3 and all("nats a frame" in each["reason"] for each in info["left_out"])


def test_cuts_without_transcripts_and_times_are_refused_before_any_work(corpus: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl.gz"
    cuts = [replace(cut, supervisions=[]) for cut in CutSet.from_jsonl_lazy(corpus / "recordings.jsonl.gz")]
    module.write_cuts(cuts, bare)
    new = {"output_dir": tmp_path / "out", "aligner_dir": tmp_path / "aligner"}
    with pytest.raises(AlignError, match="expected a transcript with every cut"):
        align_phones(options(corpus, manifests=[bare], **new))
    with pytest.raises(AlignError, match="expected cuts with phone times"):
        align_phones(options(corpus, timed_manifest=corpus / "recordings.jsonl.gz", **new))
    with pytest.raises(AlignError, match=r"found others .* too often"):
        align_phones(options(corpus, accent="de", **new))
    assert not (tmp_path / "out").exists() and not (tmp_path / "aligner").exists()


def test_the_program_says_what_it_wrote(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(corpus)
    flags = ["--manifests", *map(str, given.manifests), "--output-dir", str(tmp_path), "--aligner-dir", str(given.aligner_dir)]
    flags += ["--timed-manifest", str(given.timed_manifest), "--recordings", str(given.recordings)]
    flags += ["--rounds", "1", "--steps", "3", "--round-steps", "2"]
    monkeypatch.setattr(sys, "argv", ["align_phones.py", *flags])
    run_program(program.main)
    assert capsys.readouterr().out == f"{tmp_path / 'cuts.jsonl.gz'}: 3 cuts, {len_phones(tmp_path)} phones\n"


def len_phones(folder: Path) -> int:
    return sum(len(phones_of(cut)) for cut in CutSet.from_jsonl_lazy(folder / "cuts.jsonl.gz"))


def test_times_are_compared_by_hand() -> None:
    exact = [("a", 0.0, 0.1), ("b", 0.1, 0.2), ("c", 0.25, 0.4)]
    found = [("a", 0.0, 0.11), ("b", 0.11, 0.2), ("c", 0.2, 0.4)]
    result = compared([(found, exact, 0.4), (exact, exact, 0.4)])
    assert result["boundaries"] == 4 and result["median_ms"] == pytest.approx(5.0)  # 10, 50, 0 and 0 ms
    assert result["within_20_ms"]["mean"] == pytest.approx(0.75)
    assert result["frames"]["mean"] == pytest.approx((34 / 40 + 1) / 2)
    assert boundary_figures([]) == {"boundaries": 0}


def test_guesses_are_even_or_by_durations() -> None:
    phones = [("a", 0.3, 0.4), ("b", 0.4, 0.5)]
    assert guessed(phones, 1.0) == [("a", 0.0, 0.5), ("b", 0.5, 1.0)]
    assert guessed(phones, 1.0, {"a": 0.1, "b": 0.3}) == [("a", 0.0, 0.25), ("b", 0.25, 1.0)]


def test_phones_are_put_into_the_words_that_they_lie_in(corpus: Path) -> None:
    cut = next(iter(CutSet.from_jsonl_lazy(corpus / "timed.jsonl.gz")))
    words = words_with_phones(cut)
    assert [(word.text, " ".join(word.phones)) for word in words[:4]] == [
        ("anna", "æ n ə"),
        ("saw", "s ɔː"),
        ("a", "ɐ"),
        ("tall", "t ɔː l"),
    ]
    assert sum(len(word.phones) for word in words) == len(phones_of(cut))


def test_controls_have_the_same_phones_at_other_times_and_others_texts(corpus: Path) -> None:
    aligner, _ = module.PhoneAligner.load(corpus / "aligner" / "round-1")
    with module.Pronouncer("en-us") as pronouncer:
        cuts = list(CutSet.from_jsonl_lazy(corpus / "recordings.jsonl.gz"))
        heard = [module.hear(aligner, cut, pronouncer.pronounce(text_of(cut))) for cut in cuts]
    found = rivals(aligner, heard)
    assert len(found) == 3
    sets = retimed(found)
    symbols = {name: [[symbol for symbol, _, _ in phones_of(cut)] for cut in cuts] for name, cuts in sets.items()}
    assert symbols["aligned"] == symbols["even"] == symbols["mean_durations"] != symbols["other_text"]
    lengths = {round(end - begin, 3) for _, begin, end in phones_of(sets["even"][0])}
    assert max(lengths) - min(lengths) <= 0.0011


def test_a_timed_cut_has_word_times_from_first_phone_to_last() -> None:
    cut = dummy_cut(0, supervisions=[dummy_supervision(0)])
    aligned = Aligned([AlignedPhone(0, "a", 0.1, 0.2, 0.5), AlignedPhone(0, "b", 0.2, 0.4, 0.7), AlignedPhone(1, "c", 0.5, 0.6, 0.9)], -1.0)
    timed = timed_cut(cut, [module.SpokenWord("ab", ("a", "b")), module.SpokenWord("c", ("c",))], aligned)
    words = timed.supervisions[0].alignment["word"]
    assert [(word.symbol, word.start, word.duration, word.score) for word in words] == [("ab", 0.1, 0.3, 0.6), ("c", 0.5, 0.1, 0.9)]


def test_the_report_has_every_round_beside_its_controls(corpus: Path, tmp_path: Path) -> None:
    path = bench_alignment(AlignmentOptions(
        aligner_dir=corpus / "aligner", recordings=[corpus / "recordings.jsonl.gz"], timed_manifest=corpus / "timed.jsonl.gz",
        output=tmp_path / "alignment.json", minutes=0.2,
    ))  # fmt: skip
    values = json.loads(path.read_text())
    assert [row["round"] for row in values["rounds"]] == [0, 1] and values["title"] == "LibriSpeech test-other"
    for row in values["rounds"]:
        for name in ("aligned", "even", "mean_durations"):
            assert row["timed"][name]["median_ms"] >= 0 and 0 <= row["timed"][name]["frames"]["mean"] <= 1
        assert row["timed"]["words"]["utterances"] == row["timed"]["utterances"] > 1
        assert row["recordings"]["own_better"]["count"] == 3
        assert set(row["recordings"]["pnmi"]) == {"aligned", "mean_durations", "even", "other_text"}
    assert "moved_since_the_round_before" in values["rounds"][1]["recordings"]
    table = BLOCKS["alignment"]({"alignment": values})
    assert table is not None and table.count("\n| ") >= 5


def test_settings_that_decide_the_weights_are_kept_with_them(corpus: Path) -> None:
    kept = yaml.safe_load((corpus / "aligner" / "round-0" / "config.yaml").read_text())
    assert kept["training"]["steps"] == 3 and kept["training"]["timed_minutes"] == 90 and "recordings" not in kept["training"]
    assert np.isfinite(kept["training"]["loss_nats"])
