"""What the program says of a tiny conversation model on a tiny corpus of real dialogues."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tiny_dialogues import tiny_conversation

from benchmarks import conversation
from valle.corpora.espeak_dialogue import EspeakDialogueConfig, prepare_espeak_dialogue, synthesize_dialogues
from valle.models.conversation_released import save_conversation

CONFIG = EspeakDialogueConfig(num_hours=0.03, dev_minutes=0.1, test_minutes=2.5, num_voices=2, num_test_voices=2, seed=3)


def test_turns_are_judged_beside_their_controls(tmp_path: Path) -> None:
    synthesize_dialogues(tmp_path / "corpus", config=CONFIG)
    prepare_espeak_dialogue(tmp_path / "corpus", tmp_path / "manifests")
    save_conversation(tiny_conversation(), tmp_path / "model", dtype=torch.float32)
    arguments = ["--model", str(tmp_path / "model"), "--manifest-dir", str(tmp_path / "manifests"), "--num-turns", "3"]
    conversation.main([*arguments, "--output", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["voices"] == 4 and found["chance"] == 0.25
    for kind in ("trained", "new"):
        assert found[kind]["turns"] == 3 and set(conversation.SYSTEMS) < set(found[kind])
        assert found[kind]["real"]["own_voice"]["mean"] > found[kind]["real"]["other_speakers_voice"]["mean"]
        assert all(0 <= found[kind][name]["own_voice"]["mean"] <= 1 for name in conversation.SYSTEMS)
