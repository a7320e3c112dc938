import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from valle.evaluation.curves import Curve, CurvesError, draw_curves, read_curves


def write_log(folder: Path, extra: str = "") -> Path:
    rows = [{"step": step, "part": "coarse", "kind": "train", "nll": 5 - step / 100} for step in (50, 100)]
    rows += [{"step": 100, "part": part, "kind": "valid", "nll": 4.0} for part in ("fine_2", "fine_1", "fine_10", "coarse", "semantic")]
    path = folder / "curves.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + extra)
    return path


def test_parts_come_in_the_order_of_the_stages(tmp_path: Path) -> None:
    curves = read_curves(write_log(tmp_path))
    assert list(curves) == ["semantic", "coarse", "fine_1", "fine_2", "fine_10"]
    assert curves["coarse"] == Curve(train=[(50, 4.5), (100, 4.0)], valid=[(100, 4.0)])


def test_a_half_written_line_and_infinite_values_are_passed_over(tmp_path: Path) -> None:
    infinite = json.dumps({"step": 150, "part": "coarse", "kind": "train", "nll": float("inf")})
    curves = read_curves(write_log(tmp_path, extra=infinite + '\n{"step": 200, "part": "coa'))
    assert [step for step, _ in curves["coarse"].train] == [50, 100]


def test_no_curves_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CurvesError, match="found none"):
        read_curves(tmp_path / "curves.jsonl")
    (tmp_path / "curves.jsonl").write_text("")
    with pytest.raises(CurvesError, match="no values yet"):
        read_curves(tmp_path / "curves.jsonl")


def test_the_picture_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    draw_curves(read_curves(write_log(tmp_path)), tmp_path / "out" / "curves.png", unigram={"coarse": 5.1})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["curves.png"]
    height, width = imread(tmp_path / "out" / "curves.png").shape[:2]
    assert width > 3 * height
