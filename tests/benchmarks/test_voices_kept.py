"""Whose voice goes on, by model: the program on a tiny corpus, and how it parts a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lhotse import Recording, SupervisionSegment
from lhotse.cut import Cut
from tiny_audio import write_sound
from tiny_pipeline import tiny_released

from benchmarks import voices_kept
from valle.corpora.manifests import write_cuts
from valle.inference.pipeline import Continuation, ContinueSettings, Pipeline
from valle.models.released import save_released


def spoken(folder: Path, speaker: str, number: int, seconds: float) -> Cut:
    path = write_sound(folder / f"{speaker}-{number}.wav", seconds, seed=number + 10 * ord(speaker))
    cut = Recording.from_file(path).to_cut()
    cut.supervisions = [SupervisionSegment(id=cut.id, recording_id=cut.recording_id, start=0, duration=seconds, speaker=speaker)]
    return cut


def test_every_model_is_judged_on_the_same_prompts(tmp_path: Path) -> None:
    write_cuts([spoken(tmp_path, speaker, number, 5.5) for speaker in "ab" for number in range(4)], tmp_path / "cuts.jsonl.gz")
    for name in ("one", "two"):
        save_released(tiny_released(), tmp_path / name)
    models = [f"first={tmp_path / 'one'}", str(tmp_path / "two")]
    flags = ["--num-prompts", "4", "--max-seconds", "1.5", "--output", str(tmp_path / "out.json")]
    voices_kept.main(["--models", *models, "--corpora", f"tiny={tmp_path / 'cuts.jsonl.gz'}", *flags])
    results = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    one, two = results["corpora"]["tiny"]["first"], results["corpora"]["tiny"][str(tmp_path / "two")]
    assert one["num_voices"] == [2, 2] and one["generated"]["count"] == 8 and one["real"] == two["real"]
    assert one == two  # the same model, whatever it is called


def test_every_temperature_is_a_row_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def continued(self: Pipeline, *given: Any, settings: ContinueSettings, **more: Any) -> list[Continuation]:
        asked.append(settings.sampling["semantic"].temperature)
        return usual(self, *given, settings=settings, **more)

    usual = Pipeline.continue_audio
    monkeypatch.setattr(Pipeline, "continue_audio", continued)
    write_cuts([spoken(tmp_path, speaker, number, 5.5) for speaker in "ab" for number in range(4)], tmp_path / "cuts.jsonl.gz")
    save_released(tiny_released(), tmp_path / "model")
    flags = ["--num-prompts", "2", "--max-seconds", "1.5", "--temperatures", "0", "0.9", "--output", str(tmp_path / "out.json")]
    voices_kept.main(["--models", f"it={tmp_path / 'model'}", "--corpora", f"tiny={tmp_path / 'cuts.jsonl.gz'}", *flags])
    results = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    rows = results["corpora"]["tiny"]
    assert list(rows) == ["it, units at 0", "it, units at 0.9"] and results["command"].endswith("--num-prompts 2 --temperatures 0 0.9")
    assert asked == [0, 0.9, 0, 0.9]  # of each half of the cuts


@pytest.mark.parametrize(("count", "each"), [(3, 0), (4, 2), (7, 4)])
def test_a_judge_and_prompts_share_no_cut(count: int, each: int, tmp_path: Path) -> None:
    cuts = [spoken(tmp_path, "a", number, 1.0) for number in range(count)]
    one, other = voices_kept.parted(reversed(cuts))
    assert len(one) == each and len(other) == (count // 2 if each else 0) and not {cut.id for cut in one} & {cut.id for cut in other}
