"""The hour's model by one command: stages trained side by side, and joined into one folder."""

from __future__ import annotations

import pytest
import tiny_corpus
from recipe import Recipe

TINY = (
    "--max-steps 2 --decoder-dim 16 --nhead 2 --num-decoder-layers 1 --num-quantizers 3 --dtype float32 --tensorboard false "
    "--filter-min-duration 0.5 --num-workers 0 --valid-max-cuts 2 --device cpu"
)


@pytest.mark.slow
def test_stages_are_trained_side_by_side_and_joined(tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = Recipe.copy("espeak", tmp_path_factory.mktemp("hour"))
    tiny_corpus.write_corpus(recipe.folder / "data", tiny_corpus.Corpus(num_train=6, num_dev=3))
    words = ["--stage", "1", "--stop-stage", "3", "--vocab-size", "16", "--train-options", TINY]
    done = recipe.run(*words, script="./hour.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    exp = recipe.folder / "exp/hour"
    assert (exp / "released/model.safetensors").is_file() and (exp / "unit_bpe.json").is_file()
    assert all((exp / stage / "best-valid-loss.pt").is_file() for stage in ("semantic", "coarse", "fine"))
