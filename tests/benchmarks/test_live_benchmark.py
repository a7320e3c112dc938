"""The live benchmark on a tiny model: its figures are there, and the start of a player that never runs dry is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from tiny_pipeline import RATE, recording, tiny_released

from benchmarks import live
from valle.models.released import save_released


def test_first_audio_and_work_are_measured_over_all_prompts(tmp_path: Path) -> None:
    save_released(tiny_released(), tmp_path / "model", dtype=torch.float32)
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", recording(2), RATE)
    flags = f"--model {tmp_path}/model --audio {tmp_path}/audio --output {tmp_path}/live.json --engine torch"
    live.main([*flags.split(), "--prompts", "3", "--prompt-seconds", "1", "--seconds", "0.6", "--block-seconds", "0.2", "--listeners", "1"])
    results = json.loads((tmp_path / "live.json").read_text())
    first, rtf = results["first_audio_ms"], results["rtf"]
    assert 0 < first["p50"]["value"] <= first["p95"]["value"] and rtf["value"] > 0
    assert results["listeners"]["held"] in (0, 1) and "player_ms" in results["listeners"]
    assert results["streams"] == 3 and {goal["figure"] for goal in results["goals"]} == {"first_audio_ms.p50", "first_audio_ms.p95", "rtf"}


def test_a_player_waits_as_long_as_the_latest_chunk_makes_it() -> None:
    assert live.start_delay([(5.0, 0.5), (5.1, 0.5), (5.9, 0.1)]) == 0
    assert live.start_delay([(5.0, 0.1), (5.3, 0.1), (5.35, 0.1)]) == pytest.approx(0.2)
