"""Anyone's own recordings: killed and started again the same, bad files listed, new files noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from recipe import Recipe, stages
from tiny_audio import write_sound

SIZES = "--max-seconds 3 --dev-share 0.2 --test-share 0.2 --shard-seconds 8 --nj 1".split()
KILLS = {1: ["manifests/cuts_dev.jsonl.gz:1"], 4: ["tokenized/cuts_train.jsonl.gz:1"]}


def write_recordings(folder: Path) -> Path:
    for number, name in enumerate(("one.wav", "two.flac", "deep/er/three.ogg", "deep/four.wav", "five.aiff")):
        write_sound(folder / name, 2.5 + number, rate=(16000, 22050, 44100, 8000, 16000)[number], seed=number)
    (folder / "broken.mp3").write_bytes(b"not audio at all")
    (folder / "empty.wav").write_bytes(b"")
    return folder


@pytest.mark.slow
def test_killed_in_its_stages_it_completes_to_the_same_content_and_notices_new_files(tmp_path: Path) -> None:
    recipe = Recipe.copy("folder", tmp_path)
    audio = write_recordings(tmp_path / "my recordings")
    options = ["--audio-dir", str(audio), *SIZES]
    assert stages(recipe.finish(*options), "run") == [0, 1, 2, 3, 4]
    unbroken = recipe.content("data")
    page = unbroken["data/report.html"].decode()
    assert "broken.mp3" in page and "empty.wav" in page and "two.flac" not in page
    shutil.rmtree(recipe.folder / "data")

    for stage, places in KILLS.items():
        for place in places:
            assert stages(recipe.kill(*options, at=place), "run")[-1] == stage
    recipe.finish(*options)
    content = recipe.content("data")
    assert content.keys() == unbroken.keys()
    assert [name for name in content if content[name] != unbroken[name]] == []

    assert stages(recipe.finish("--audio-dir", f"{audio}/deep/..", *SIZES), "run") == [], "the same folder by another path"
    write_sound(audio / "six.wav", 2.0, seed=6)
    output = recipe.finish(*options, "--stop-stage", "1")
    assert stages(output, "run") == [0, 1] and "six" in (recipe.folder / "data" / "scan.jsonl").read_text()


def test_recordings_below_the_recipes_own_data_are_refused_before_any_work(tmp_path: Path) -> None:
    recipe = Recipe.copy("folder", tmp_path)
    audio = write_recordings(recipe.folder / "data" / "mine")
    for given in ("data", "data/mine", str(audio)):
        before = recipe.content("data/mine")
        done = recipe.run("--audio-dir", given, *SIZES)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        assert "where this program keeps its own files; move the recordings out of there" in done.stderr
        assert recipe.content("data/mine") == before and not (recipe.folder / "data" / "manifests").exists()


@pytest.mark.slow
def test_texts_beside_the_recordings_are_learned_from_and_noticed_when_they_change(tmp_path: Path) -> None:
    recipe = Recipe.copy("folder", tmp_path)
    audio = tmp_path / "mine"
    for number in range(5):
        write_sound(audio / f"{number}.wav", 1.5 + 0.1 * number, seed=number)
        (audio / f"{number}.txt").write_text(f"Anna saw {number} tall men and Peter sang to them.")
    options = ["--audio-dir", str(audio), *SIZES, "--text-suffix", ".txt", "--num-pieces", "300", "--stop-stage", "2"]
    assert stages(recipe.finish(*options), "run") == [0, 1, 2]
    assert (recipe.folder / "data" / "tokenizers" / "text" / "config.yaml").is_file()
    assert stages(recipe.finish(*options), "run") == []
    (audio / "0.txt").write_text("Anna saw 9 tall men and Peter sang to them.")
    assert stages(recipe.finish(*options), "run") == [1, 2]
