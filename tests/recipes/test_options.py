"""What every recipe's prepare.sh says to its options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recipe import ROOT, Recipe

RECIPES = sorted(path.parent.name for path in (ROOT / "egs").glob("*/prepare.sh"))
NEEDS_RECORDINGS = ["atepp", "folder"]


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Recipe:
    return Recipe.copy(request.param, tmp_path)


def nothing_was_made(recipe: Recipe) -> bool:
    return not (recipe.folder / "data").exists() and not (recipe.folder / "download").exists()


def test_the_recipes_are_those_of_the_house() -> None:
    assert RECIPES == ["atepp", "espeak", "espeak_dialogue", "espeak_text", "folder", "librispeech", "synthetic"]


def test_help_prints_every_option_with_its_default(recipe: Recipe) -> None:
    script = (recipe.folder / "prepare.sh").read_text().partition(". shared/parse_options.sh")[0]
    options = re.findall(r"^([a-z]\w*)=(\S*) *# (.+)$", script, re.MULTILINE)
    assert {"stage", "stop_stage", "nj", "device", "batch_seconds"} <= {name for name, _, _ in options}
    assert len(options) == len(re.findall(r"^[a-z]\w*=", script, re.MULTILINE)) - 1, "an option without a comment beside it"
    done = recipe.run("--help")
    assert done.returncode == 0 and done.stderr == "" and nothing_was_made(recipe)
    for name, default, comment in options:
        line = f"  --{name.replace('_', '-'):<18} {comment} ({default or 'none'})\n"
        assert line in done.stdout
    assert done.stdout.index("Usage") < done.stdout.index("--stage") and "Stages: 0 audio" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num-job", "3"], "there is no option --num-job; near it: "),
        (["--help-message", "x"], "there is no option --help-message; near it: "),
        (["--python=sh"], "there is no option --python; near it: "),
        (["--nj"], "--nj expects a value, found none; write --nj VALUE"),
        (["--stage", "two"], "--stage expects a stage's number, found 'two'"),
        (["--stop-stage="], "--stop-stage expects a stage's number, found ''"),
        (["-stage", "3"], "expected options, which begin with two dashes, found '-stage'; --help lists all"),
        (["stage", "3"], "expected options, which begin with two dashes, found 'stage'; --help lists all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_refused_in_a_sentence(recipe: Recipe, words: list[str], said: str) -> None:
    done = recipe.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"prepare.sh: error: {said}") and done.stderr.count("\n") == 1
    assert nothing_was_made(recipe)


def test_from_another_folder_it_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    name = recipe.folder.name
    other = Recipe.copy("espeak" if name != "espeak" else "folder", tmp_path)
    for script, cwd in ((f"../{name}/prepare.sh", other.folder), (f"{name}/prepare.sh", other.folder.parent)):
        done = recipe.run(script=script, cwd=cwd)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"prepare.sh: error: run it in its own folder: cd egs/{name} && ./prepare.sh\n"
    assert nothing_was_made(recipe) and nothing_was_made(other)


@pytest.mark.parametrize("name", NEEDS_RECORDINGS)
def test_recordings_must_be_named_and_there(name: str, tmp_path: Path) -> None:
    recipe = Recipe.copy(name, tmp_path)
    done = recipe.run()
    assert done.returncode == 2 and "found none; give --audio-dir DIR" in done.stderr
    done = recipe.run("--audio-dir", str(tmp_path / "nowhere"))
    assert (
        done.returncode == 2 and done.stderr == f"prepare.sh: error: --audio-dir expects a folder, found none at {tmp_path / 'nowhere'}\n"
    )
    assert nothing_was_made(recipe)


def test_librispeech_needs_parts_and_a_folder_that_is_there(tmp_path: Path) -> None:
    recipe = Recipe.copy("librispeech", tmp_path)
    done = recipe.run("--train-parts", "")
    assert done.returncode == 2 and "--train-parts and --dev-parts expect names of parts, found none" in done.stderr
    done = recipe.run("--corpus-dir", str(tmp_path / "nowhere"))
    assert done.returncode == 2 and "--corpus-dir expects a folder in LibriSpeech's layout, found none at" in done.stderr
    assert nothing_was_made(recipe)


def test_a_mistake_in_a_program_ends_the_recipe_with_its_sentence(tmp_path: Path) -> None:
    recipe = Recipe.copy("espeak", tmp_path)
    done = recipe.run("--num-hours", "-1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("synthesize_espeak.py: error: --num-hours must be above 0 and finite, found -1")
    assert not (recipe.folder / "data" / ".stages" / "0").exists()
