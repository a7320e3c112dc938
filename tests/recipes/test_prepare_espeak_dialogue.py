"""The dialogue recipe: from nothing to cuts of two channels with tokens; killed it goes on to the same content, and done it is skipped."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from recipe import Recipe, stages

SIZES = (
    "--num-hours 0.005 --dev-minutes 0.05 --test-minutes 0.1 --max-seconds 15 --num-voices 2 --num-test-voices 2 --num-units 10 "
    "--num-pieces 400 --shard-seconds 30 --nj 1"
).split()
LEFT = ("data", "download")


@pytest.mark.slow
def test_killed_in_its_stages_it_completes_to_the_same_content(tmp_path: Path) -> None:
    recipe, broken = (Recipe.copy("espeak_dialogue", tmp_path / name) for name in ("whole", "broken"))
    assert stages(recipe.finish(*SIZES), "run") == [0, 1, 2, 3, 4]
    for place in ("000000.jsonl:1", "text/pieces.model:1"):
        broken.kill(*SIZES, at=place)
    broken.finish(*SIZES, "--stop-stage", "2")
    for name in ("data/tokenizers/text/pieces.model", "download/espeak_dialogue/utterances_train.jsonl"):
        assert (broken.folder / name).read_bytes() == (recipe.folder / name).read_bytes(), name
    with gzip.open(recipe.folder / "data/tokenized/cuts_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        cuts = [json.loads(line) for line in lines]
    assert all({"units", "codes"} <= set(cut["custom"]) and cut["supervisions"][0]["text"] for cut in cuts)
    assert {cut["channel"] for cut in cuts} == {0, 1} and len({cut["recording"]["id"] for cut in cuts}) == len(cuts) / 2
    before = recipe.times(*LEFT)
    assert stages(recipe.finish(*SIZES), "skipped") == [0, 1, 2, 3, 4] and recipe.times(*LEFT) == before
    assert stages(recipe.finish(*SIZES, "--num-pieces", "420", "--stop-stage", "2"), "run") == [2]
