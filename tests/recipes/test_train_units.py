"""Units of the embedded recipe from audio alone by one command: iterations that follow one another, and units that are measured."""

from __future__ import annotations

import json
from pathlib import Path

from recipe import Recipe

AUDIO = "--num-hours 0.02 --dev-minutes 0.4 --test-minutes 0.6 --num-voices 3 --num-test-voices 2 --max-seconds 6 --stop-stage 1"
TINY = (
    "--max-steps 2 --encoder-dim 16 --nhead 2 --num-encoder-layers 2 --batch-size 2 --crop-seconds 1 --dtype float32 --num-threads 1 "
    "--tensorboard false --valid-interval 100"
)


def test_iterations_follow_one_another_and_their_units_are_measured(tmp_path: Path) -> None:
    recipe = Recipe.copy("espeak", tmp_path)
    few = recipe.run("--minutes", "1 1", "--clusters", "6", script="./train_units.sh")
    assert few.returncode == 2 and few.stderr == (
        "train_units.sh: error: expected --clusters for each of 2 iterations, found '6'; give as many as --minutes\n"
    )
    recipe.finish(*AUDIO.split())
    sizes = ["--minutes", "1 1", "--clusters", "6 8", "--target-layer", "2", "--layers", "1 2", "--num-units", "6"]
    done = recipe.run("--stage", "1", *sizes, "--train-options", TINY, script="./train_units.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hubert (" in done.stdout and "mfcc-kmeans (" in done.stdout
    result = json.loads((recipe.folder / "exp/hubert-2/units.json").read_text())
    assert [report["num_units"] for report in result["reports"]] == [200, 6]
    assert [row["layer"] for row in result["choice"]] == [1, 2]
    other = recipe.run(
        "--stage", "1", "--stop-stage", "1", "--objective", "wav2vec", "--minutes", "1", "--train-options", TINY, script="./train_units.sh"
    )
    assert other.returncode == 0, other.stdout + other.stderr
    assert (recipe.folder / "exp/wav2vec-1/best-valid-loss.pt").is_file() and not (recipe.folder / "exp/wav2vec-2").exists()
