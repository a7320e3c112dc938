"""Programs whose output folder is the folder of the recordings: nothing there is written over or deleted."""

import shutil
import sys
from pathlib import Path

import pytest
from lhotse import Recording
from tiny_audio import write_sound
from tiny_pipeline import checkpoint_state, tiny_codec, tiny_released

from valle.bin import export, infer, tokenizer, write_prompts
from valle.corpora.manifests import write_cuts
from valle.errors import run_program
from valle.models.checkpoint import save_checkpoint
from valle.tokenizers.registry import save_tokenizer

PROGRAMS = {"infer": infer, "tokenizer": tokenizer, "write_prompts": write_prompts, "export": export}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec, a checkpoint, a tokenised corpus and recordings, with files beside them that outputs could be called like."""
    house = tmp_path_factory.mktemp("house")
    released = tiny_released()
    save_tokenizer(tiny_codec(), house / "codec")
    save_checkpoint(house / "exp" / "epoch-1.pt", checkpoint_state(released))
    spoken = [write_sound(house / "spoken" / f"{seed}.wav", 2.0, seed=seed) for seed in range(3)]
    for part in ("train", "dev", "test"):
        write_cuts((Recording.from_file(path).to_cut() for path in spoken), house / "tokenized" / f"cuts_{part}.jsonl.gz")
    for seed, name in enumerate(("hello.wav", "other.wav")):
        write_sound(house / "rec" / name, 2.0, seed=seed)
    for name in ("hello.json", "index.html", "summary.json", "hello.npy", "config.yaml"):
        (house / "rec" / name).write_text("mine")
    return house


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def run(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a program in a copy of the house; returns its status and what it said."""
    shutil.copytree(house, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def call(words: str) -> tuple[int, str]:
        name, *flags = words.split()
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *flags])
        try:
            run_program(PROGRAMS[name].main)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return status, capsys.readouterr().err

    return call


INFER = "infer --checkpoint exp/epoch-1.pt --prompt-seconds 1 --max-seconds 0.2 --audio-prompts"


@pytest.mark.parametrize(
    ("words", "clash"),
    [
        (f"{INFER} rec/hello.wav --output-dir rec", "rec/hello.wav"),
        (f"{INFER} rec/other.wav --output-dir rec", "rec/other.wav"),
        ("tokenizer encode --tokenizer codec --audio rec/hello.wav --output-dir rec", "rec/hello.npy"),
        ("tokenizer encode --tokenizer codec --audio rec --output-dir rec", "rec/hello.npy"),
        ("tokenizer pack --tokenizer codec --output-dir rec", "rec/config.yaml"),
        ("tokenizer pack --tokenizer codec --output-dir codec", "codec/"),
        ("export --checkpoint exp/epoch-1.pt --output-dir rec", "rec"),
    ],
)
def test_a_clash_is_one_line_and_status_2_and_changes_nothing(run, words: str, clash: str) -> None:
    before = tree(Path())
    status, said = run(words)
    assert status == 2 and clash in said and len(said.splitlines()) == 1, said
    assert tree(Path()) == before


def test_decoding_beside_the_recordings_leaves_them(run) -> None:
    assert run("tokenizer encode --tokenizer codec --audio rec/hello.wav --output-dir codes")[0] == 0
    before = tree(Path())
    status, said = run("tokenizer decode --codes codes/hello.npy --output-dir rec")
    assert status == 2 and "rec/hello.wav" in said and tree(Path()) == before


def test_writing_prompts_deletes_only_prompts_that_it_wrote(run) -> None:
    before = tree(Path("rec"))
    words = "write_prompts --manifest-dir tokenized --output-dir rec --min-seconds 1 --num-prompts"
    assert run(f"{words} 3")[0] == 0
    three = tree(Path("rec")).keys() - before.keys() - {".valle-outputs.json"}
    assert len(three) == 3
    assert run(f"{words} 1")[0] == 0
    after = tree(Path("rec"))
    assert len(after.keys() - before.keys() - {".valle-outputs.json"}) == 1
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "words",
    [
        f"{INFER} rec/hello.wav --output-dir out",
        "tokenizer encode --tokenizer codec --audio rec --output-dir out",
        "tokenizer pack --tokenizer codec --output-dir out",
        "export --checkpoint exp/epoch-1.pt --output-dir out",
        "write_prompts --manifest-dir tokenized --output-dir out --min-seconds 1",
    ],
)
def test_the_same_command_runs_again_over_its_own_outputs(run, words: str) -> None:
    assert run(words)[0] == 0
    first = tree(Path("out"))
    assert run(words)[0] == 0
    assert tree(Path("out")).keys() == first.keys()


def test_an_output_with_something_of_somebody_else_in_it_is_not_replaced(run) -> None:
    words = "export --checkpoint exp/epoch-1.pt --output-dir out"
    assert run(words)[0] == 0
    Path("out/notes.txt").write_text("mine")
    status, said = run(words)
    assert status == 2 and "out/notes.txt" in said and Path("out/notes.txt").read_text() == "mine"
