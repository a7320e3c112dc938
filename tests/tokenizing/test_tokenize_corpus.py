"""A corpus tokenised by several processes, killed anywhere and gone on with: no token is lost or doubled."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from test_tokenize_cuts import content, save_tiny_tokenizers, write_manifests
from tiny_training import in_processes

from valle.corpora.manifests import read_cuts
from valle.tokenizers.registry import load_acoustic, load_semantic
from valle.tokenizing.encode_batches import BatchTokenizer
from valle.tokenizing.tokenize_corpus import CorpusConfig, tokenize_corpus
from valle.tokenizing.tokenize_cuts import shards_folder
from valle.training.distributed import World

OF_A_MOMENT = {"report.html", "tokenized/statistics.png"}  # which say when and where they were made


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_tiny_tokenizers(tmp_path / "given")
    write_manifests(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(kind: str = "hdf5", output: str = "data/tokenized") -> CorpusConfig:
    return CorpusConfig(
        manifest_dir=Path("manifests"), acoustic="given/acoustic", semantic="given/semantic", output_dir=Path(output), format=kind,
        shard_seconds=1.0, batch_seconds=5.0, device="cpu",
    )  # fmt: skip


def run(world: World, folder: Path, config: CorpusConfig, kill_at: tuple[int, str, int]) -> None:
    """One process's work; that of rank ``kill_at[0]`` kills itself when it renames something to ``kill_at[1]`` for the n-th time."""
    os.chdir(folder)
    rank, text, left = kill_at

    def watch(event: str, arguments: tuple) -> None:
        nonlocal left
        if event == "os.rename" and text in os.fspath(arguments[1]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if world.rank == rank:
        sys.addaudithook(watch)
    tokenize_corpus(config, processes=world)


NEVER = (-1, "", 0)


def made(config: CorpusConfig) -> dict[str, bytes]:
    """Everything that training reads, and the shards."""
    found = content(config.output_dir.parent)
    return {name: value for name, value in found.items() if name not in OF_A_MOMENT and not name.endswith("report.html")}


@pytest.mark.parametrize("kind", ["hdf5", "shar", "memmap"])
def test_two_processes_leave_what_one_does(folder: Path, kind: str) -> None:
    config = settings(kind)
    assert in_processes(run, folder, config, NEVER, size=2) == [0, 0]
    two = made(config)
    for path in sorted(shards_folder(config.output_dir).rglob("*")):
        if path.is_file():
            path.unlink()
    tokenize_corpus(config)
    assert made(config) == two and len([name for name in two if name.startswith("tokenized/shards/train")]) >= 10


@pytest.mark.parametrize(
    ("kind", "kill_at"),
    [
        ("hdf5", (1, "train-00003.h5", 1)),
        ("hdf5", (0, "train-00002.json", 1)),  # its cuts are there, its last file is not
        ("shar", (1, "codes.000001.tar", 1)),
        ("shar", (0, "cuts.000000.jsonl.gz", 2)),  # of dev: train is whole
        ("memmap", (1, "train-00001.units.int16", 1)),
        ("memmap", (0, "train.codes.int16", 1)),  # shards are whole, and are being put together
    ],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(folder: Path, kind: str, kill_at: tuple[int, str, int]) -> None:
    config = settings(kind)
    ends = in_processes(run, folder, config, kill_at, size=2)
    assert ends[kill_at[0]] == -signal.SIGKILL and not (config.output_dir / "info.json").exists()
    done = {path: path.stat().st_mtime_ns for path in shards_folder(config.output_dir).glob("train-*.json")}
    tokenize_corpus(config)  # with another number of processes
    assert all(path.stat().st_mtime_ns == time for path, time in done.items()), "a finished shard was made again"
    found = made(config)
    for path in sorted(config.output_dir.rglob("*")):
        if path.is_file():
            path.unlink()
    tokenize_corpus(config)
    assert made(config) == found
    assert not [name for name in found if ".tmp" in name]


def test_units_and_codes_in_bfloat16_say_how_many_they_changed(folder: Path) -> None:
    exact, lower = settings(output="exact/tokenized"), settings(output="lower/tokenized")
    tokenize_corpus(exact)
    parts = tokenize_corpus(CorpusConfig(**{**vars(lower), "dtype": "bfloat16"}))
    changed = parts["train"].changed
    assert list(changed.compared) == ["codebook 0", "codebook 1", "codebook 2", "units"]
    assert changed.changed["units"] == 0 < sum(changed.changed.values())  # MFCCs are never computed in less
    assert 0 < changed.compared["units"] * 2 == changed.compared["codebook 0"]


def test_a_precision_that_was_asked_for_once_is_not_the_tokenizers_afterwards(folder: Path) -> None:
    codec, units = load_acoustic("given/acoustic"), load_semantic("given/semantic")
    with BatchTokenizer(codec, units, dtype=torch.bfloat16) as tokenizer:
        list(tokenizer.encode_all(list(read_cuts(Path("manifests/cuts_train.jsonl.gz")))))
    assert tokenizer.changed.compared and codec.precision == torch.float32
