"""Names of 251 letters, of bytes that are no UTF-8, and of letters that the terminal cannot show."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_audio import write_sound
from tiny_pipeline import tiny_codec, tiny_released

from valle.corpora.folder import FolderConfig, prepare_folder
from valle.corpora.folder_scan import cached_name
from valle.corpora.folder_walk import AudioFile, walk_folder
from valle.files import LONGEST_STEM, plain_stem, replacing, write_text
from valle.models.released import save_released
from valle.tokenizers.registry import save_tokenizer

ROOT = Path(__file__).parents[2]
LONG = "n" * 251


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings as a Mac, an old Windows and a long title leave them, and what makes tokens and sound of them."""
    house = tmp_path_factory.mktemp("odd")
    save_tokenizer(tiny_codec(), house / "codec")
    save_released(tiny_released(), house / "model")
    for seed, name in enumerate(("one.wav", "grüße 你好.wav", f"{LONG}.wav", f"{LONG[:-1]}m.wav", "moved.wav")):
        write_sound(house / "rec" / name, 1.5, seed=seed)
    os.rename(house / "rec" / "moved.wav", os.fsencode(house / "rec") + b"/caf\xe9.wav")
    (house / "rec" / "._one.wav").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + b"\0" * 4080)
    (house / "rec" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + b"\0" * 600)
    (house / "rec" / "broken.wav").write_bytes(b"RIFF" + b"\1" * 100)
    return house


def run(house: Path, program: str, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(ROOT / "valle" / "bin" / f"{program}.py"), *words]
    return subprocess.run(command, cwd=house, env=variables, capture_output=True, check=False)


@pytest.mark.parametrize("terminal", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_encode_does_every_file_of_an_odd_folder_that_can_be_done_on_any_terminal(
    house: Path, tmp_path: Path, terminal: dict[str, str]
) -> None:
    done = run(house, "tokenizer", "encode", "--tokenizer", "codec", "--audio", "rec", "--output-dir", str(tmp_path / "out"), **terminal)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert len(list((tmp_path / "out").glob("*.npy"))) == len(list((tmp_path / "out").glob("*.json"))) - 1 == 4
    said = done.stdout.decode()
    assert "left out: rec/caf\\udce9.wav: name is not valid text" in said and "broken.wav" in said and "._one" not in said


def test_infer_takes_odd_names_and_says_them_on_an_ascii_terminal(house: Path, tmp_path: Path) -> None:
    prompts = [f"rec/{LONG}.wav", f"rec/{LONG[:-1]}m.wav", "rec/grüße 你好.wav"]
    flags = ["--prompt-seconds", "1", "--max-seconds", "0.2", "--num-samples", "2", "--model", "model"]
    done = run(house, "infer", *flags, "--output-dir", str(tmp_path), "--audio-prompts", *prompts, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    items = json.loads((tmp_path / "summary.json").read_text())["items"]
    assert len({item["wav"] for item in items}) == 6
    for item in items:
        item["wav"].encode()
        assert (tmp_path / item["wav"]).is_file() and (tmp_path / item["wav"]).with_suffix(".png").is_file()
    assert "grüße 你好" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_corpus_is_made_of_what_can_be_used_of_an_odd_folder(house: Path, tmp_path: Path) -> None:
    flags = {"output_dir": tmp_path / "m", "cache_dir": tmp_path / "c", "scan_log": tmp_path / "s", "report": tmp_path / "r"}
    report = prepare_folder(FolderConfig(audio_dir=house / "rec", **flags))
    assert sum(count for count, _ in report.sizes.values()) == 4


def test_every_derived_name_is_short_enough_and_no_two_are_one() -> None:
    stems = ["a", LONG, LONG[:-1] + "m", "é" * 127, "caf\udce9", "caf\udce8", "你" * 85]
    made = [plain_stem(stem) for stem in stems]
    assert len(set(made)) == len(stems) and made[0] == "a"
    assert all(len(name.encode()) <= LONGEST_STEM for name in made)
    file = AudioFile(path=f"deep/{LONG}.m4a", size=2**40, modified=2**60)
    assert all(len(name) <= 255 for name in cached_name(file).split("/"))


def test_a_file_of_the_longest_name_is_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / f"{LONG}.txt", "whole, with \udce9")
    assert (tmp_path / f"{LONG}.txt").read_text() == "whole, with \\udce9"
    with pytest.raises(ValueError), replacing(tmp_path / f"{LONG}.txt", ending=".tmp.png") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert [path.name for path in tmp_path.iterdir()] == [f"{LONG}.txt"]


def test_a_walk_of_an_odd_folder_leaves_out_and_goes_on(house: Path) -> None:
    assert len(walk_folder(house / "rec").files) == 5  # broken.wav is told when it is read
