"""Figures of quality are taken out of reports, of one model, and none is invented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import quality
from valle.errors import UserError

VALUES = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10, "controls": {"chance": 0.5}, "corpus": "c", "definition": "d", "meaning": "m."}


def write_report(folder: Path, figures: dict[str, object], *, model: str = "m") -> str:
    (folder / "suites").mkdir(parents=True)
    (folder / "suites" / "continuation.json").write_text(json.dumps({"settings": {"model_sha256": model}}))
    (folder / "report.json").write_text(json.dumps(figures))
    return str(folder)


def test_figures_have_their_controls_and_those_without_a_value_are_absent(tmp_path: Path) -> None:
    names = ("syn_wuggy_in_vocabulary", "words_in_lexicon_codec", "voice_cosine", "voice_cosine_real", "watermark_tpr_speed_1.02",
             "nll_semantic", "silence_share")  # fmt: skip
    first = write_report(tmp_path / "a", {**dict.fromkeys(names, VALUES), "wer_codec": {**VALUES, "value": None}})
    second = write_report(tmp_path / "b", {"voice_kept": VALUES})
    quality.main(["--hour", first, second, "--output", str(tmp_path / "quality.json")])
    found = json.loads((tmp_path / "quality.json").read_text())
    assert "bundled" not in found and found["hour"].keys() == {
        "syn_wuggy_in_vocabulary", "words_in_lexicon_codec", "voice_cosine_own", "voice_cosine_real", "watermark_tpr_speed_1.02",
        "voice_kept",
    }  # fmt: skip
    assert found["hour"]["voice_kept"] == {name: value for name, value in VALUES.items() if name != "meaning"}
    assert first in found["command"]


def test_another_corpus_has_names_of_its_own_and_a_figure_twice_is_refused(tmp_path: Path) -> None:
    reports = [write_report(tmp_path / name, {"wer_codec": VALUES}) for name in ("a", "b")]
    assert quality.collect([reports[0], f"librispeech={reports[1]}"]).keys() == {"wer_codec", "wer_codec@librispeech"}
    with pytest.raises(UserError, match="wer_codec"):
        quality.collect(reports)


def test_reports_of_several_models_are_refused(tmp_path: Path) -> None:
    reports = [write_report(tmp_path / name, {f"{name}_codec": VALUES}, model=name) for name in ("wer", "abx")]
    with pytest.raises(UserError, match="another one's"):
        quality.collect(reports)
    with pytest.raises(UserError, match="another one's"):
        quality.main(["--bundled", reports[0], "--output", str(tmp_path / "quality.json")])
    for wrong in ([], ["--hour", str(tmp_path)]):
        with pytest.raises(UserError, match="report"):
            quality.main(wrong)
