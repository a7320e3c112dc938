import json
import sys
from pathlib import Path

import numpy as np
import pytest
from kept_report import write_report

from valle.bin import evaluate as program
from valle.errors import UserError
from valle.evaluation.compare import compare_reports, compare_tables, read_report, shown_difference
from valle.evaluation.compare_models import compare
from valle.evaluation.evaluate import EvaluateOptions
from valle.measures.intervals import Items, paired_difference

BASE = [1.0, 5.0, 2.0, 9.0, 4.0, 7.0]


def plain(values: list[float]) -> Items:
    return Items(tuple(values), (1.0,) * len(values))


def test_pairs_tell_what_two_intervals_side_by_side_cannot() -> None:
    better = paired_difference(plain(BASE), plain([value + 0.5 for value in BASE]))
    assert [better.mean, better.low, better.high] == pytest.approx([0.5] * 3) and better.count == 6
    assert paired_difference(plain(BASE), plain(BASE)).mean == 0


def test_a_paired_difference_of_ratios_is_that_of_sums_without_items_that_say_nothing() -> None:
    one, other = Items((1, 2, float("nan")), (10, 10, 10)), Items((3, 5, 9), (10, 20, 10))
    assert paired_difference(one, other).mean == pytest.approx(8 / 30 - 3 / 20)
    with pytest.raises(ValueError, match="same items"):
        paired_difference(plain([1.0]), plain([1.0, 2.0]))


def test_the_paired_interval_equals_a_slow_twins() -> None:
    other = [3.0, 5.5, 1.0, 9.5, 6.0, 7.0]
    found = paired_difference(plain(BASE), plain(other))
    generator = np.random.default_rng(1)
    drawn = [np.mean([other[place] - BASE[place] for place in generator.integers(0, 6, 6)]) for _ in range(4000)]
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.12)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    one = write_report(tmp_path / "one", model="one", values=BASE)
    two = write_report(tmp_path / "two", model="two", values=[value + 1 for value in BASE])
    return [one, two]


def test_reports_are_compared_item_by_item_with_a_verdict(folders: list[Path], tmp_path: Path) -> None:
    comparison = compare(EvaluateOptions(compare=folders, output_dir=tmp_path / "out"))
    verdicts = {one.name: one.verdict(1) for one in comparison.compared}
    assert verdicts == {"codec_stoi": "better", "nll_semantic": "worse", "silence_share": ""}
    assert shown_difference(comparison.compared[0], 1) == ("+1.00", "1.00 to 1.00")
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert written["reports"] == ["one", "two"] and written["figures"]["codec_stoi"]["differences"][0]["mean"] == pytest.approx(1)
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "https://" not in page and page.count('class="row new"') == 6 and ">better<" in page and ">worse<" in page


def test_a_third_report_is_compared_with_the_first(folders: list[Path], tmp_path: Path) -> None:
    three = write_report(tmp_path / "three", model="three", values=[6.0, 5.0, 1.0, 3.0, 8.0, 5.0])
    reports = [read_report(folder, name=folder.name) for folder in [*folders, three]]
    compared, _ = compare_reports(reports)
    [stoi] = [one for one in compared if one.name == "codec_stoi"]
    assert (stoi.verdict(1), stoi.verdict(2)) == ("better", "no clear difference")
    [table] = compare_tables(reports, compared)
    assert len(table.columns) == 10 and all(len(row) == 10 for row in table.rows)


def test_other_items_or_settings_are_refused_in_one_line(folders: list[Path], tmp_path: Path) -> None:
    names = [*[f"item-{number}" for number in range(5)], "stranger"]
    others = {
        "found 2 that only one": write_report(tmp_path / "items", model="two", values=BASE, names=names),
        "another max_items": write_report(tmp_path / "settings", model="two", values=BASE, prompts=5),
    }
    for said, folder in others.items():
        with pytest.raises(UserError, match=said) as refused:
            compare(EvaluateOptions(compare=[folders[0], folder], output_dir=tmp_path / "out"))
        assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()


def test_nats_of_other_tokenizers_are_left_out_with_the_reason(folders: list[Path], tmp_path: Path) -> None:
    other = write_report(tmp_path / "other", model="two", values=BASE, tokenizers="another")
    comparison = compare(EvaluateOptions(compare=[folders[0], other], output_dir=tmp_path / "out"))
    assert "nll_semantic" not in {one.name for one in comparison.compared}
    assert comparison.left_out == ["nll_semantic: nats a token of other tokenizers cannot be compared"]


def test_a_folder_without_a_report_and_a_single_one_are_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two or more"):
        EvaluateOptions(compare=folders[:1], output_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="give --corpus"):
        compare(EvaluateOptions(compare=[folders[0], tmp_path / "empty"], output_dir=tmp_path / "out"))
    with pytest.raises(UserError, match="--corpus"):
        EvaluateOptions(output_dir=tmp_path)


def test_the_program_prints_the_table(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--compare", *map(str, folders), "--output-dir", str(tmp_path / "out")])
    program.main()
    printed = capsys.readouterr().out
    row = next(line.split() for line in printed.splitlines() if "codec_stoi" in line)
    assert row == ["codec_stoi", "4.67", "5.67", "+1.00", "1.00", "to", "1.00", "better"] and "compare.html" in printed
