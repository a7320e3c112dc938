"""How much less than a control units err: the program on babble of several voices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_pipeline import tiny_kmeans
from tiny_speech import write_spoken

from benchmarks import sound_units
from valle.errors import UserError
from valle.measures.abx import AbxScore
from valle.measures.intervals import bootstrap_mean
from valle.tokenizers.registry import save_tokenizer


def test_units_are_compared_with_the_control_on_the_same_pairs(tmp_path: Path) -> None:
    write_spoken(tmp_path / "cuts.jsonl.gz", num_cuts=12, seed=0)
    save_tokenizer(tiny_kmeans(hop_length=320), tmp_path / "control")
    flags = ["--control", str(tmp_path / "control"), "--units", "mfcc-kmeans", "--pocketsphinx", str(tmp_path / "cuts.jsonl.gz")]
    flags += ["--voices", f"babble={tmp_path / 'cuts.jsonl.gz'}", "--num-triples", "300", "--output", str(tmp_path / "out.json")]
    sound_units.main(flags)
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    control, ours = found["corpora"]["pocketsphinx"]["rows"]
    errors = [row["abx"]["units"]["collapsed"]["mean"] for row in (control, ours)]
    assert (control["name"], ours["name"]) == ("control", "mfcc-kmeans") and control["less_than_control"]["collapsed"]["mean"] == 0
    assert ours["less_than_control"]["collapsed"]["mean"] == pytest.approx(1 - errors[1] / errors[0])
    assert 0.4 < ours["abx"]["permuted"]["collapsed"]["mean"] < 0.6 and 0 < ours["pnmi_permuted"] < ours["pnmi"]["pnmi"]
    assert control["rate_hz"] == 2 * ours["rate_hz"] and 0 < ours["in_use"] <= ours["num_units"]
    probe = found["speaker_probe"]["babble"]
    assert [row["name"] for row in probe["rows"]] == ["control", "mfcc-kmeans"] and probe["rows"][0]["voices"] >= 2
    assert [goal["figure"] for goal in found["goals"]] == ["units.pocketsphinx"]


def test_what_is_less_than_the_control_is_a_share_with_an_interval_over_pairs() -> None:
    half, whole = (AbxScore(bootstrap_mean(values), bootstrap_mean(values), 9, 3) for values in ([0.1, 0.2, 0.0], [0.2, 0.4, 0.0]))
    found = sound_units.less(half, whole)
    assert found["collapsed"]["mean"] == found["flat"]["mean"] == pytest.approx(0.5)
    assert found["collapsed"]["low"] == pytest.approx(0.5) and found["collapsed"]["count"] == 3


def test_nothing_to_score_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none; give --pocketsphinx"):
        sound_units.main(["--control", "mfcc-kmeans", "--output", str(tmp_path / "out.json")])
