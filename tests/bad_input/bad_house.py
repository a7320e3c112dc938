"""A house of good things, made once, and one run of a program inside it by someone who gives it something bad.

A case's folder holds `good`, a link to the house, and whatever the case itself makes; the program starts there, so that its
sentences name short paths.
"""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import soundfile
import torch
from tiny_audio import write_librispeech, write_sound
from tiny_corpus import Corpus, write_corpus
from tiny_pipeline import RATE, checkpoint_state, recording, tiny_released

from valle.corpora.folder import FolderConfig, prepare_folder
from valle.errors import run_program
from valle.models.checkpoint import save_checkpoint
from valle.models.released import save_released

TRAIN = (
    "--manifest-dir good/data/tokenized --exp-dir exp --decoder-dim 16 --nhead 2 --num-decoder-layers 1 --num-quantizers 3 --dtype float32 "
    "--num-workers 0 --tensorboard false --device cpu"
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One mistake: ``make(folder)`` prepares it, ``flags`` commit it, ``says`` are phrases that the one sentence must hold."""

    given: str
    program: str
    flags: str
    says: tuple[str, ...]
    make: Callable[[Path], object] = lambda folder: None
    leaves: tuple[str, ...] = ()  # what may be there afterwards, such as the log of a run that stopped on its way
    needs: Callable[[], bool] = lambda: True  # what the machine must be like

    def __post_init__(self) -> None:
        assert len(self.says) > 0


@dataclass(frozen=True)
class End:
    """How a program ended."""

    status: int
    out: str
    err: str
    new: frozenset[str]  # files and folders that were not there before


def build_house(house: Path) -> Path:
    """Prompts, a released model, a run of it, tokenized and untokenized manifests, corpora: all tiny, all real."""
    soundfile.write(house / "a.wav", recording(1.5), RATE)
    released = tiny_released()
    save_released(released, house / "model", dtype=torch.float32)
    save_checkpoint(house / "exp" / "epoch-1.pt", checkpoint_state(released))
    write_corpus(house / "data", Corpus(num_train=6, num_dev=2, longest=2.0))
    for number in range(4):
        write_sound(house / "recordings" / f"{number}.wav", 1.5, seed=number)
    write_librispeech(house / "LibriSpeech", {f"{part}/{speaker}-1-0000": 1.0 for part, speaker in (("dev-clean", 1), ("train-x", 2))})
    prepared = house / "data"
    prepare_folder(FolderConfig(
        audio_dir=house / "recordings", output_dir=prepared / "manifests", cache_dir=prepared / "audio", scan_log=prepared / "scan.jsonl",
        report=prepared / "report.html",
    ))  # fmt: skip
    return house


def commit(case: Case, folder: Path, house: Path) -> End:
    """Run the case's program in ``folder``, in this process."""
    (folder / "good").symlink_to(house)
    case.make(folder)
    return run(case.program, shlex.split(case.flags), folder)


def run(program: str, argv: list[str], folder: Path) -> End:
    """One run of ``valle/bin/<program>.py`` in this process, from ``folder``."""
    main = importlib.import_module(f"valle.bin.{program}").main
    before, here, old_argv = tree(folder), Path.cwd(), sys.argv
    out, err, status = StringIO(), StringIO(), 0
    handlers = list(logging.getLogger().handlers)
    threads, environment = torch.get_num_threads(), dict(os.environ)
    try:
        os.chdir(folder)
        sys.argv = [f"bin/{program}.py", *argv]
        with redirect_stdout(out), redirect_stderr(err):
            run_program(main)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os.chdir(here)
        sys.argv = old_argv
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(threads)
        for handler in logging.getLogger().handlers:
            if handler not in handlers:
                handler.close()
        logging.getLogger().handlers = handlers
    return End(status=status, out=out.getvalue(), err=err.getvalue(), new=frozenset(tree(folder) - before))


def tree(folder: Path) -> set[str]:
    """Every path below a folder with its size, links not followed."""
    found = set()
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            size = path.lstat().st_size if path.is_file() and not path.is_symlink() else ""
            found.add(f"{path.relative_to(folder)} {size}".strip())
    return found


def copy(house_path: str, name: str) -> Callable[[Path], Path]:
    """A copy of something good, to be damaged."""

    def make(folder: Path) -> Path:
        source = folder / "good" / house_path
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target))

    return make
