"""What every recipe's run.sh gives to the trainer."""

from __future__ import annotations

import subprocess

import pytest
from recipe import ROOT

RUNS = sorted(path.parent.name for path in (ROOT / "egs").glob("*/run.sh"))
COMMON = 'exp_dir=exp minutes=0 num_epochs=1 world_size=1 train_options="--seed 3"'


def words_for_the_trainer(recipe: str, acoustic_model: str) -> list[str]:
    """The command that ``run_training`` builds, written instead of run."""
    script = f'{COMMON} acoustic_model={acoustic_model}; . shared/stages.sh; python=echo; run_training --config "a b"'
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=ROOT / "egs" / recipe, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("recipe", RUNS)
def test_the_acoustic_model_is_an_option_that_reaches_the_trainer(recipe: str) -> None:
    words = words_for_the_trainer(recipe, "soundstorm")
    assert words[words.index("--acoustic-model") + 1] == "soundstorm" and words[-2:] == ["--seed", "3"]
    assert "\nacoustic_model= " in (ROOT / "egs" / recipe / "run.sh").read_text(encoding="utf-8")


def test_without_a_choice_the_settings_file_decides() -> None:
    assert "--acoustic-model" not in words_for_the_trainer("espeak", "")
