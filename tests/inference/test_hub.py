"""Models by name: the hub's cache without a network, and a hub on this machine with the hub's own client."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from hub_client import codes_of
from tiny_audio import write_sound
from tiny_hub import TOKEN, TinyHub, tiny_hub
from tiny_pipeline import tiny_released

from valle.bin import infer
from valle.errors import run_program
from valle.inference.pipeline import Pipeline
from valle.models.audio_lm import AudioLM
from valle.models.folder import ReleasedModelError
from valle.models.hub import HubError, find_model, upload_model
from valle.models.released import save_released

TESTS = Path(__file__).parents[1]
FILES = {"config.yaml", "model.safetensors"}
ALL_FILES = FILES | {f"tokenizers/{kind}/{name}" for kind in ("acoustic", "semantic") for name in FILES}
WHERE_FILES_GO = ("config.yaml and model.safetensors into a folder", "tokenizers/acoustic", "tokenizers/semantic")


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


@dataclass(frozen=True)
class Visit:
    """What a process found and said at a hub, the hub itself, and the process's own folder."""

    found: dict[str, Any]
    hub: TinyHub
    home: Path

    def fetched(self, name: str) -> set[str]:
        start = f"/{name}/resolve/"
        return {request.split("/", 5)[5] for request in self.hub.requests if start in request}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "model"
    save_released(tiny_released(), folder, dtype=torch.float32)
    return folder


@pytest.fixture(scope="module")
def visit(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """``hub_client.py`` at a hub that has other people's models, with files that run code beside those of a released folder."""
    home = tmp_path_factory.mktemp("home")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own |= {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(TESTS.parent)}
    pickled = pickle.dumps(Evil())
    evil = {"pytorch_model.bin": pickled, "config.py": b"open('ran', 'w')", "tokenizers/acoustic/model.pt": pickled}
    with tiny_hub() as hub:
        hub.models = {"someone/known": dict(evil), "someone/other": {**evil, "config.json": b"{}"}}
        hub.models["someone/twin"] = {**evil, **{path: (folder / path).read_bytes() for path in ALL_FILES}}
        command = [sys.executable, str(TESTS / "hub_client.py"), str(folder), TOKEN]
        done = subprocess.run(command, env={**own, "HF_ENDPOINT": hub.address}, capture_output=True, text=True, cwd=home)
        assert done.returncode == 0, done.stderr
        yield Visit(json.loads(done.stdout), hub, home)


def test_a_pushed_model_is_the_saved_folder(visit: Visit, folder: Path) -> None:
    assert visit.found["addresses"] == [f"{visit.hub.address}/someone/{name}" for name in ("small-lm", "known")]
    assert visit.hub.models["someone/small-lm"].keys() == ALL_FILES
    for path in ALL_FILES:
        assert visit.hub.models["someone/small-lm"][path] == (folder / path).read_bytes(), path
    assert visit.hub.messages == ["Small and new", "Upload model"]
    assert visit.hub.private == {"someone/small-lm": True, "someone/known": False}
    assert {"pytorch_model.bin", *ALL_FILES} < visit.hub.models["someone/known"].keys(), "what was there stays"


def test_a_model_of_the_hub_continues_as_the_folder_does(visit: Visit, folder: Path) -> None:
    assert visit.found["codes"] == codes_of(Pipeline.from_pretrained(folder))


def test_only_a_released_folders_own_files_are_fetched_and_nothing_runs(visit: Visit) -> None:
    assert visit.fetched("someone/small-lm") == ALL_FILES
    assert visit.fetched("someone/twin") == FILES and visit.found["width"] == 32, "of an AudioLM no tokenizers"
    assert visit.fetched("someone/other") == set() and not list(visit.home.rglob("ran"))


@pytest.mark.parametrize(
    ("call", "reason"),
    [("nothing", "not there, or private"), ("other", "so no model of this package"), ("revision", "without that revision")],
)
def test_what_the_hub_does_not_have_is_one_sentence_that_says_which_files_go_where(call: str, reason: str, visit: Visit) -> None:
    sentence = visit.found[call]
    assert reason in sentence and "\n" not in sentence and all(words in sentence for words in WHERE_FILES_GO), sentence


def test_a_stranger_is_told_to_log_in(visit: Visit) -> None:
    sentence = visit.found["stranger"]
    assert sentence.startswith("expected to write the model someone/small-lm to the hub") and "`hf auth login`" in sentence
    assert "\n" not in sentence


# -- without a network ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's offline mode, with a cache of its own -> the folder of both."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put_in_cache(home: Path, folder: Path, name: str, *, without: str = "") -> None:
    """``folder`` as the hub's client lays it: blobs, links to them in a snapshot, and a ref to that."""
    place, commit = home / "hub" / f"models--{name.replace('/', '--')}", "0123456789abcdef0123456789abcdef01234567"
    for number, path in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != without):
        blob, link = place / "blobs" / f"{number:040x}", place / "snapshots" / commit / path.relative_to(folder)
        for file in (blob, link):
            file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)


def run_infer(flags: str, monkeypatch: pytest.MonkeyPatch) -> int:
    write_sound(Path("a.wav"), 1.0)
    monkeypatch.setattr(sys, "argv", ["infer.py", "--audio-prompts", "a.wav", "--output-dir", "out", *flags.split()])
    try:
        run_program(infer.main)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_cached_model_is_found_by_its_name(offline: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_cache(offline, folder, "someone/small-lm")
    assert codes_of(Pipeline.from_pretrained("someone/small-lm")) == codes_of(Pipeline.from_pretrained(folder))
    assert AudioLM.from_pretrained("someone/small-lm").config.d_model == 32
    assert run_infer("--model someone/small-lm --max-seconds 1", monkeypatch) == 0 and (offline / "out" / "a.wav").is_file()


@pytest.mark.parametrize("cache", ["empty", "not whole"])
def test_a_model_out_of_reach_is_one_line_that_says_which_files_go_where(
    cache: str, offline: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if cache == "not whole":
        put_in_cache(offline, folder, "someone/small-lm", without="model.safetensors")
    assert run_infer("--model someone/small-lm", monkeypatch) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("infer.py: error: expected a released model in the folder someone/small-lm or on the hub by that name")
    assert all(words in line for words in WHERE_FILES_GO) and not (offline / "out").exists()


def test_a_folder_of_that_name_wins_over_the_hub(offline: Path, folder: Path) -> None:
    put_in_cache(offline, folder, "someone/small-lm")
    Path("someone/small-lm").mkdir(parents=True)
    assert find_model("someone/small-lm") == Path("someone/small-lm")
    with pytest.raises(ReleasedModelError, match=r"expected a released model .* found none"):
        Pipeline.from_pretrained("someone/small-lm")


@pytest.mark.parametrize("name", ["nothing", "./no/thing", "a/b/c", "/no/thing"])
def test_a_name_that_cannot_be_a_hubs_is_a_folder_that_is_missing(name: str, offline: Path) -> None:
    with pytest.raises(ReleasedModelError, match=r"expected a released model .* found none"):
        Pipeline.from_pretrained(name)
    with pytest.raises(HubError, match="expected a name on the hub"):
        upload_model(offline, name)
