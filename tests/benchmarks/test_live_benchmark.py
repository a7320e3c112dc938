"""The live benchmark on a tiny model: its figures are there, and the start of a player that never runs dry is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from tiny_pipeline import RATE, recording, tiny_released

from benchmarks import live, live_blocks, live_soak
from valle.models.released import save_released


def test_first_audio_and_work_are_measured_over_all_prompts(tmp_path: Path) -> None:
    save_released(tiny_released(), tmp_path / "model", dtype=torch.float32)
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", recording(2), RATE)
    flags = f"--model {tmp_path}/model --audio {tmp_path}/audio --output {tmp_path}/live.json --engine torch"
    more = "--prompts 3 --prompt-seconds 1 --seconds 0.6 --block-seconds 0.2 --listeners 1 --long-streams 1 --long-seconds 0.6"
    live.main([*flags.split(), *more.split(), "--name", "demo"])
    results = json.loads((tmp_path / "live.json").read_text())
    first, rtf = results["first_audio_ms"], results["rtf"]
    assert 0 < first["p50"]["value"] <= first["p95"]["value"] and rtf["value"] > 0
    assert results["command"].startswith("python -m benchmarks.live --model exp/released --name demo --prompts 3 --prompt-seconds 1 ")
    assert results["listeners"]["held"] in (0, 1) and "player_ms" in results["listeners"]
    assert results["streams_at_rtf_1"] in (0, 1)
    assert results["streams"] == 3 and {goal["figure"] for goal in results["goals"]} == {"first_audio_ms.p50", "first_audio_ms.p95", "rtf"}


def test_a_soak_of_every_kind_of_listener_leaves_nothing_behind_and_stands_beside_other_results(tmp_path: Path) -> None:
    of_the_hour = {"seconds_with_listeners": 3630.0, "memory_mib": {"start": 4, "end": 5}}
    (tmp_path / "live.json").write_text(json.dumps({"rtf": 0.3, "memory_mib": {"after_9": 5}, "soak": {"hour": of_the_hour}, "goals": []}))
    flags = f"--streams 16 --seed 3 --lock {tmp_path}/lock --turn-seconds 0.2 --output {tmp_path}/live.json"
    live_soak.main(flags.split())
    results = json.loads((tmp_path / "live.json").read_text())
    soak = results["soak"]["short"]
    assert soak["command"] == "python -m benchmarks.live_soak --streams 16 --at-once 6"
    assert soak["streams"] == sum(soak["outcomes"].values()) == 16 and len({name.split(":")[0] for name in soak["outcomes"]}) > 2
    assert {name: left for name, left in soak["left"].items() if left > 0} == {} and soak["flat"]
    assert results["rtf"] == 0.3 and results["memory_mib"].keys() == {"start_of_the_hour", "after_1h", "start", "after_16"}


def test_blocks_of_every_length_are_timed_in_turns(tmp_path: Path) -> None:
    save_released(tiny_released(), tmp_path / "model", dtype=torch.float32)
    live_blocks.main(["--model", f"{tmp_path}/model", "--timed-prompts", "1", "--engine", "torch", "--output", f"{tmp_path}/blocks.json"])
    timed = json.loads((tmp_path / "blocks.json").read_text())["timed"]
    assert list(timed) == ["as streamed", "0.1 s", "0.2 s", "0.3 s", "0.5 s", "1 s"]
    assert all(row["first_audio_ms"]["value"] > 0 and row["rtf"]["value"] > 0 for row in timed.values())


def test_a_player_waits_as_long_as_the_latest_chunk_makes_it() -> None:
    assert live.start_delay([(5.0, 0.5), (5.1, 0.5), (5.9, 0.1)]) == 0
    assert live.start_delay([(5.0, 0.1), (5.3, 0.1), (5.35, 0.1)]) == pytest.approx(0.2)
