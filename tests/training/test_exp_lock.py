"""Two trainers never share an experiment folder, and a lock never outlives its process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_training import tiny_options

from valle.training.codec_options import CodecOptions
from valle.training.exp_lock import FolderInUseError, exp_dir_locked
from valle.training.speech_encoder_options import SpeechEncoderOptions
from valle.training.train import train_audio_lm
from valle.training.train_codec import train_codec
from valle.training.train_speech_encoder import train_speech_encoder


def hold(exp_dir: Path, held: Any, has_child: bool) -> None:
    with exp_dir_locked(exp_dir):
        if has_child and os.fork() == 0:  # as a reader of batches is, which lives on a moment longer
            time.sleep(60)
            os._exit(0)
        held.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """A process that holds ``tmp_path / "exp"``."""
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "exp", held, True))
    process.start()
    assert held.wait(20)
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize(
    ("train", "options"),
    [
        (train_audio_lm, lambda exp_dir: tiny_options(Path("none"), exp_dir)),
        (train_codec, lambda exp_dir: CodecOptions(exp_dir=exp_dir, manifests=[Path("none")])),
        (train_speech_encoder, lambda exp_dir: SpeechEncoderOptions(exp_dir=exp_dir)),
    ],
)
def test_a_second_trainer_is_refused_at_once(
    train: Callable[[Any], None], options: Callable[[Path], Any], holder: Any, tmp_path: Path
) -> None:
    with pytest.raises(FolderInUseError, match=rf"found another at work there \(process {holder.pid} on .*\); .* another --exp-dir"):
        train(options(tmp_path / "exp"))


def test_a_lock_ends_with_its_process_though_a_reader_lives_on(holder: Any, tmp_path: Path) -> None:
    with pytest.raises(FolderInUseError), exp_dir_locked(tmp_path / "exp"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with exp_dir_locked(tmp_path / "exp"):
        (tmp_path / "exp" / "mine").touch()
    assert (tmp_path / "exp" / "mine").is_file()


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    with exp_dir_locked(tmp_path / "new" / "exp"):
        assert (tmp_path / "new" / "exp").is_dir()
    assert not (tmp_path / "new" / "exp").exists()
    with exp_dir_locked(tmp_path / "exp"):
        (tmp_path / "exp" / "log").touch()
    assert os.listdir(tmp_path / "exp") == ["log"]
