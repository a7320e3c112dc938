import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from spoken_corpus import write_corpus
from tiny_pipeline import CODEBOOKS, checkpoint_state, lean_to_end, tiny_released

from valle.bin import demo_report
from valle.errors import run_program
from valle.evaluation.demo import DemoOptions, report_demo
from valle.evaluation.demo_summary import DemoError, as_text, demo_tables, read_training_summary
from valle.inference.listening_page import PageTable
from valle.models.checkpoint import save_checkpoint

STAGE = {"train_nll": 1.9, "valid_nll": 2.0, "unigram_nll": 4.5, "accuracy": 0.41}


@pytest.fixture
def run(tmp_path: Path) -> DemoOptions:
    """The folders of a training run of all stages that has just ended."""
    released = lean_to_end(tiny_released(), -1e9)
    exp_dir = tmp_path / "exp" / "demo"
    save_checkpoint(exp_dir / "best-valid-loss.pt", checkpoint_state(released))
    levels = list(range(1, CODEBOOKS))
    names = ("nll_per_codebook", "train_nll_per_codebook", "unigram_nll_per_codebook", "accuracy_per_codebook")
    fine = {"levels": levels, **{name: [0.5] * len(levels) for name in names}}
    training = {"semantic": STAGE, "coarse": STAGE, "fine": fine, "steps": 7, "epochs": 1, "seconds": 60.0, "dtype": "float32"}
    (exp_dir / "summary.json").write_text(json.dumps(training))
    rows = [{"step": 5, "part": part, "kind": kind, "nll": 3.0} for part in ("semantic", "coarse", "fine") for kind in ("train", "valid")]
    (exp_dir / "curves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DemoOptions(
        exp_dir=exp_dir, manifest_dir=write_corpus(tmp_path / "tokenized", released), num_prompts=2, num_judged=3, num_codec=2,
        num_measured=0, prompt_seconds=1.0, max_seconds=1.5,
    )  # fmt: skip


def test_a_demo_ends_with_a_page_a_summary_and_its_sounds(run: DemoOptions) -> None:
    said: list[str] = []
    run = replace(run, num_measured=4)
    summary = report_demo(run, step=said.append)
    assert summary == json.loads((run.exp_dir / "summary.json").read_text())
    assert {"wall_seconds", "hours_train", "n_voices", "fine", "codec", "continuations", "rtf_infer"} <= summary.keys()
    assert summary["n_voices"] == 3 and summary["hours_train"] == pytest.approx(12 * 4 / 3600)
    assert summary["semantic"] == STAGE and summary["coarse"] == STAGE
    assert 0 < summary["codec"]["stoi_real_test"] <= 1 and summary["codec"]["mel_l1"] > 0
    assert summary["rtf_infer"] > 0 and said[0] == "continuing prompts"
    assert len(summary["continuations"]) == 2
    for item in summary["continuations"]:
        assert (run.exp_dir / item["wav"]).is_file() and Path(item["prompt"]).is_file()
        assert item["seconds"] == pytest.approx(2.5)
    page = (run.exp_dir / "index.html").read_text()
    assert 'href="report/report.html"' in page and "codec_stoi" in (run.exp_dir / "report" / "report.html").read_text()
    assert "A voice goes on" in page and "Loss in nats per token" in page and page.count("<audio") == 2
    assert not [path for path in run.exp_dir.rglob("*") if "tmp" in path.name]


def test_a_demo_can_be_reported_again(run: DemoOptions) -> None:
    first, second = report_demo(run), report_demo(run)
    for summary in (first, second):
        del summary["wall_seconds"], summary["rtf_infer"]
    assert first == second


def test_a_corpus_too_small_to_judge_voices_says_so_in_the_report(run: DemoOptions) -> None:
    summary = report_demo(replace(run, prompt_seconds=3.5, max_seconds=0.5))
    assert "expected utterances" in summary["voices"]["left_out"]
    assert any("not measured" in as_text(table) for table in demo_tables(summary))


def test_the_program_prints_the_table_and_where_to_listen(
    run: DemoOptions, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = "--num-prompts 2 --num-judged 3 --num-codec 2 --num-measured 0 --max-seconds 1 --prompt-seconds 1"
    folders = ["--exp-dir", str(run.exp_dir), "--manifest-dir", str(run.manifest_dir)]
    monkeypatch.setattr(sys, "argv", ["demo_report.py", *folders, *few.split()])
    demo_report.main()
    printed = capsys.readouterr().out
    assert " ".join(next(line for line in printed.splitlines() if "semantic" in line).split()) == "semantic 1.90 2.00 4.50 2.50 41 %"
    assert f"listen: {run.exp_dir / 'index.html'}" in printed


def test_a_run_that_has_not_ended_is_one_sentence(run: DemoOptions, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.exp_dir / "summary.json").unlink()
    monkeypatch.setattr(sys, "argv", ["demo_report.py", "--exp-dir", str(run.exp_dir), "--manifest-dir", str(run.manifest_dir)])
    with pytest.raises(SystemExit) as caught:
        run_program(demo_report.main)
    errors = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and len(errors) == 1 and "wait until training ends" in errors[0]
    assert not (run.exp_dir / "index.html").exists() and not (run.exp_dir / "continued").exists()


def test_summaries_that_cannot_be_used_are_refused(run: DemoOptions) -> None:
    path = run.exp_dir / "summary.json"
    path.write_text(json.dumps({"semantic": STAGE}))
    with pytest.raises(DemoError, match="found no coarse, fine in"):
        report_demo(run)
    assert not (run.exp_dir / "continued").exists()
    for damaged in ('{"semantic": ', "[1]"):
        path.write_text(damaged)
        with pytest.raises(DemoError, match="train again"):
            read_training_summary(path)
    with pytest.raises(DemoError, match="num-prompts must be 2 or more"):
        DemoOptions(num_prompts=0)


def test_tables_stand_in_columns() -> None:
    table = PageTable("Title", ("name", "x"), [("a", "1.00"), ("longer", "10.00")])
    assert as_text(table) == "Title\n  name        x\n  a        1.00\n  longer  10.00"
    assert as_text(PageTable("T", ("", ""), [("a", "1")])) == "T\n  a  1"
