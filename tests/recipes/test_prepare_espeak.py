"""The embedded recipe: killed anywhere it completes to the same content, what is done is skipped, what changed is redone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from recipe import Recipe, stages

SIZES = (
    "--num-hours 0.025 --dev-minutes 0.2 --test-minutes 0.4 --num-voices 3 --num-test-voices 2 --max-seconds 6 --shard-seconds 30 --nj 1"
).split()
LEFT = ("data", "download")

# In the order of the stages; one that is killed twice goes on twice.
KILLS = {
    0: ["/audio/train/:9", "utterances_dev.jsonl:1"],
    1: ["cuts_dev.jsonl.gz:1"],
    2: ["tokenizers/.acoustic.tmp/config.yaml:1"],
    3: ["train-00001.json:1", "shards/dev.json:1"],
    4: ["tokenized/cuts_test.jsonl.gz:1", "report.html:1"],
}

Content = dict[str, bytes]


@pytest.mark.slow
def test_killed_in_every_stage_it_completes_to_the_same_content_and_redoes_only_what_changed(tmp_path: Path) -> None:
    """One story in one test: each start of Python costs more than what it does here."""
    recipe = Recipe.copy("espeak", tmp_path)
    assert stages(recipe.finish(*SIZES), "run") == [0, 1, 2, 3, 4]
    unbroken = recipe.content(*LEFT)
    for part in LEFT:
        shutil.rmtree(recipe.folder / part)  # and not moved to elsewhere: paths are part of the content

    for stage, places in KILLS.items():
        for place in places:
            assert stages(recipe.kill(*SIZES, at=place), "run")[-1] == stage
    assert stages(recipe.finish(*SIZES), "run") == [4]
    assert_same(recipe.content(*LEFT), unbroken)
    for name in ("cuts_train.jsonl.gz", "cuts_dev.jsonl.gz", "info.json", "statistics.png", "shards/train-00001.h5"):
        assert f"data/tokenized/{name}" in unbroken
    assert "data/report.html" in unbroken and any(name.endswith(".wav") for name in unbroken)

    finished_stages_are_skipped(recipe)
    what_somebody_deleted_is_made_again(recipe, unbroken)
    a_stage_whose_predecessors_have_other_settings_is_refused(recipe)
    a_changed_setting_redoes_its_stage_and_those_after_it(recipe, unbroken)


def assert_same(content: Content, expected: Content) -> None:
    assert content.keys() == expected.keys()
    assert [name for name in content if content[name] != expected[name]] == []


def finished_stages_are_skipped(recipe: Recipe) -> None:
    before = recipe.times(*LEFT)
    output = recipe.finish(*SIZES)
    assert stages(output, "skipped") == [0, 1, 2, 3, 4] and stages(output, "run") == []
    assert recipe.times(*LEFT) == before


def what_somebody_deleted_is_made_again(recipe: Recipe, unbroken: Content) -> None:
    (recipe.folder / "data" / "report.html").unlink()
    (recipe.folder / "data" / "tokenized" / "cuts_dev.jsonl.gz").unlink()
    assert stages(recipe.finish(*SIZES), "run") == [4]
    assert_same(recipe.content(*LEFT), unbroken)


def a_stage_whose_predecessors_have_other_settings_is_refused(recipe: Recipe) -> None:
    done = recipe.run(*SIZES, "--seed", "7", "--stage", "4")
    assert done.returncode == 2
    assert done.stderr == (
        "prepare.sh: error: stage 4 needs stage 3 with the same settings, which is not done; start with --stage 3 or lower\n"
    )


def a_changed_setting_redoes_its_stage_and_those_after_it(recipe: Recipe, unbroken: Content) -> None:
    output = recipe.finish(*SIZES, "--shard-seconds", "1000")
    assert stages(output, "skipped") == [0, 1, 2] and stages(output, "run") == [3, 4]
    content = recipe.content(*LEFT)
    assert "data/tokenized/shards/train-00001.h5" not in content, "what other settings left is removed"
    before = {name: held for name, held in unbroken.items() if not name.startswith("data/tokenized/")}
    assert_same({name: content[name] for name in before}, before)
