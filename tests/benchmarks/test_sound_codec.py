"""What a codec keeps of words: the program on samples of speech, with a recogniser that hears what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lhotse import Recording, SupervisionSegment

from benchmarks import sound_codec
from benchmarks.memory import SAMPLES
from valle.corpora.manifests import write_cuts
from valle.evaluation.recogniser import Heard, Segment
from valle.measures.intervals import bootstrap_ratio

TEXT = "one two three four five six seven eight nine ten"


class Told:
    """Hears the text without its first word, and of what a codec made without its first two."""

    name, language = "told", "en"

    def __init__(self) -> None:
        self.asked = 0

    def hear(self, wav: np.ndarray, sample_rate: int) -> Heard:
        self.asked += 1
        assert wav.dtype == np.float32 and sample_rate == 16000
        missing = 1 if self.asked <= 2 else 2  # the recordings themselves are heard first
        return Heard((Segment(" ".join(TEXT.split()[missing:]), -0.2, 1.2, 0.0),))


def manifest(folder: Path) -> Path:
    cuts = []
    for path in sorted(SAMPLES.glob("*.flac"))[:2]:
        cut = Recording.from_file(path).to_cut().truncate(duration=2.0)
        cut.supervisions = [SupervisionSegment(id=cut.id, recording_id=cut.recording_id, start=0, duration=2.0, text=TEXT.upper())]
        cuts.append(cut)
    write_cuts(cuts, folder / "cuts.jsonl.gz")
    return folder / "cuts.jsonl.gz"


def test_words_are_counted_over_those_of_the_recording_and_what_was_heard_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Told()
    monkeypatch.setattr(sound_codec, "whisper_recogniser", lambda name: judge)
    flags = [
        "--manifests",
        str(manifest(tmp_path)),
        "--codecs",
        "valle-convnext",
        "valle-16khz",
        "--codebooks",
        "1",
        "8",
        "--whisper",
        "told",
    ]
    flags += ["--heard", str(tmp_path / "heard.json"), "--output", str(tmp_path / "out.json")]
    sound_codec.main(flags)
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["utterances"] == 2 and found["original"]["word_error"]["mean"] == pytest.approx(0.1)
    rows = {(row["name"], row["codebooks"]): row for row in found["rows"]}
    assert list(rows) == [("valle-convnext", 1), ("valle-convnext", 8), ("valle-16khz", 1), ("valle-16khz", 8)]
    assert rows["valle-convnext", 8]["times_original"]["mean"] == pytest.approx(2) and rows["valle-convnext", 8]["kbps"] == pytest.approx(
        3.2
    )
    stoi = {key: row["measures"]["stoi"]["mean"] for key, row in rows.items()}
    assert stoi["valle-convnext", 8] > max(stoi["valle-convnext", 1], stoi["valle-16khz", 8])
    less = rows["valle-16khz", 8]["more_than_first"]["stoi"]["mean"]
    assert less == pytest.approx(stoi["valle-16khz", 8] - stoi["valle-convnext", 8]) and "more_than_first" not in rows["valle-convnext", 8]
    assert {goal["figure"]: goal["met"] for goal in found["goals"]}["codec.times_original"] is False
    asked = judge.asked
    sound_codec.main(flags)
    assert judge.asked == asked == 2 * (1 + 4)


def test_times_the_original_is_the_ratio_of_errors_by_the_paired_bootstrap() -> None:
    plain = bootstrap_ratio([1, 2, 0, 1], [10, 10, 10, 10])
    worse = bootstrap_ratio([2, 4, 0, 2], [10, 10, 10, 10])
    found = sound_codec.times(worse, plain)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2, 2)) and found.count == 4


def test_goals_are_of_the_last_row() -> None:
    row = {"measures": {"stoi": {"mean": 0.93}, "pesq": {"mean": 2.1}}, "times_original": {"mean": 1.2}, "kbps": 3.2}
    assert {name: goal["met"] for name, goal in sound_codec.goals_of_row(row).items()} == {
        "stoi": True, "pesq": False, "times_original": True, "kbps": True,
    }  # fmt: skip
    assert SimpleNamespace(**sound_codec.goals_of_row(row)["stoi"]).goal == "at least 0.92"
