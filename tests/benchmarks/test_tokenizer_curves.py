"""Curves of tokenizers' runs: where each begins and ends, and a picture."""

import json
from pathlib import Path

import pytest

from benchmarks import tokenizer_curves


def test_runs_begin_and_end_where_their_curves_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_curves, "RESULTS", tmp_path)
    for name in ("one", "two"):
        rows = [
            {"step": step, "seconds": 30.0 * step, "part": part, "kind": kind, "nll": 5.0 - step, "accuracy": 0.1 * step}
            for step, kind in ((1, "train"), (2, "train"), (2, "valid")) for part in ("codec", "discriminator")
        ]  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "curves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    picture = tmp_path / "pictures" / "curves.png"
    tokenizer_curves.main(["--exp-dirs", str(tmp_path / "one"), str(tmp_path / "two"), "--picture", str(picture), "--output", "curves"])
    runs = json.loads((tmp_path / "curves.json").read_text())["runs"]
    assert [run["name"] for run in runs] == ["one", "two"] and picture.stat().st_size > 5000
    assert runs[0] == {"name": "one", "steps": 2, "minutes": 1.0, "train": [4.0, 3.0], "dev": [3.0], "dev_accuracy": 0.2}
