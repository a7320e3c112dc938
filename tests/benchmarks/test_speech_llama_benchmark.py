"""What the program says of a tiny speech-llama: every way of transcribing, and drafts that change no text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_transcribed import tiny_speech_llama, write_transcribed

from benchmarks import speech_llama
from valle.inference import transcriber
from valle.models.speech_llama_released import save_speech_llama


def test_every_way_is_judged_on_the_same_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcriber, "MOST_PIECES", 12)  # random weights seldom come to an end
    manifest = write_transcribed(tmp_path / "cuts_test.jsonl.gz", num_cuts=3)
    save_speech_llama(tiny_speech_llama(), tmp_path / "model", dtype=torch.float32)
    speech_llama.main(["--models", f"tiny={tmp_path / 'model'}", "--manifest", str(manifest), "--output", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())["models"]["tiny"]
    assert set(found) == {"new", "drafts"} and {"llama", "ctc", "text"} < set(found["new"])
    assert all(found["new"][way]["cuts"] == 3 and found["new"][way]["word_error"] > 0 for way in ("llama", "ctc", "text"))
    assert -1 <= found["new"]["order"] <= 1
    assert found["drafts"]["texts_are_equal"] and set(found["drafts"]["speedup"]) == {"1", "2"}
