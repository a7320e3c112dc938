"""Prepared corpora to one model and its continuations, by one command."""

from __future__ import annotations

import json
from pathlib import Path

from recipe import Recipe
from tiny_audio import write_sound

TINY = (
    "--max-steps 2 --decoder-dim 16 --nhead 2 --num-decoder-layers 1 --dim-feedforward 32 --max-duration 8 --warmup-steps 1 "
    "--dtype float32 --num-threads 1 --tensorboard false --filter-min-duration 1 --num-buckets 1"
)


def test_from_prepared_corpora_to_continuations(tmp_path: Path) -> None:
    corpus, recipe = Recipe.copy("folder", tmp_path), Recipe.copy("mixed", tmp_path)
    for number in range(5):
        write_sound(tmp_path / "audio" / f"{number}.wav", 3.0, seed=number)
    corpus.finish("--audio-dir", str(tmp_path / "audio"), *"--dev-share 0.2 --test-share 0.2 --nj 1".split())
    sizes = "--minutes 1 --num-prompts 1 --prompt-seconds 1 --max-seconds 0.3".split()
    given = ["--manifest-dirs", "../folder/data/tokenized ../folder/data/tokenized", "--repeats", "1 2"]
    done = recipe.run(*given, *sizes, "--train-options", TINY, script="./run.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (recipe.folder / "exp/audio-lm/released/model.safetensors").is_file()
    summary = json.loads((recipe.folder / "exp/audio-lm/continued/summary.json").read_text(encoding="utf-8"))
    assert [item["prompt_seconds"] for item in summary["items"]] == [1.0]
