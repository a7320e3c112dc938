"""The codec trains on the same loop, and goes on bit for bit, moving averages and revivals of codes too."""

import gzip
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource
from tiny_audio import write_sound
from tiny_training import differences, in_processes, run_until_killed, train

from valle.tokenizers.registry import load_acoustic
from valle.training import codec_task
from valle.training.codec_task import REVIVE_EVERY, CodecOptions, CodecTask
from valle.training.distributed import World
from valle.training.errors import OtherRunError
from valle.training.loop import Loop
from valle.training.memory_check import try_largest


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of three recordings of a second."""
    folder = tmp_path_factory.mktemp("sounds")
    path = folder / "cuts.jsonl.gz"
    with gzip.open(path, "wt") as stream:
        for number in range(3):
            wav = write_sound(folder / f"{number}.wav", 1.0, seed=number)
            source = AudioSource(type="file", channels=[0], source=str(wav))
            recording = Recording(id=str(number), sources=[source], sampling_rate=16000, num_samples=16000, duration=1.0)
            stream.write(json.dumps(MonoCut(id=str(number), start=0, duration=1.0, channel=0, recording=recording).to_dict()) + "\n")
    return path


def codec_options(manifest: Path, exp_dir: Path, **changes: Any) -> CodecOptions:
    settings: dict[str, Any] = {
        "manifests": [manifest], "exp_dir": exp_dir, "batch_size": 2, "segment_seconds": 0.25, "batches_per_epoch": 6, "num_epochs": 1,
        "num_workers": 0, "dim": 8, "num_blocks": 1, "num_quantizers": 2, "codebook_size": 8, "optimizer_name": "AdamW",
        "base_lr": 0.002, "warmup_steps": 2, "save_every_n": 2, "valid_interval": 4, "log_interval": 2, "average_period": 2,
        "dtype": "float32", "device": "cpu", "tensorboard": False,
    }  # fmt: skip
    return CodecOptions(**{**settings, **changes})


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_codec_killed_mid_epoch_ends_as_an_unbroken_one(num_workers: int, recordings: Path, tmp_path: Path) -> None:
    whole = train(codec_options(recordings, tmp_path / "whole"))
    options = codec_options(recordings, tmp_path / "killed", num_workers=num_workers)
    assert in_processes(run_until_killed, options, 5) == [-signal.SIGKILL]
    again = train(options)
    for key in ("model", "optimizer", "model_avg"):
        assert differences(whole[key], again[key]) == [], key
    codec = load_acoustic(str(tmp_path / "killed" / "codec"))
    codes, lengths = codec.encode(torch.zeros(1, 3200), torch.tensor([3200]))
    assert codes.shape == (1, 10, 2) and lengths.tolist() == [10]


def test_a_codec_resumed_just_before_a_revival_still_revives(recordings: Path, tmp_path: Path) -> None:
    """What after_step sets for the next step is no part of a checkpoint, so it is set again."""
    settings: dict[str, Any] = {"batches_per_epoch": 19, "save_every_n": 0, "valid_interval": 100}
    whole = codec_options(recordings, tmp_path / "whole", num_epochs=2, **settings)
    unbroken = Loop(CodecTask(whole), whole, World())
    unbroken.run()
    first, second = (codec_options(recordings, tmp_path / "cut", num_epochs=epochs, **settings) for epochs in (1, 2))
    Loop(CodecTask(first), first, World()).run()
    again = Loop(CodecTask(second), second, World())
    assert again.progress.step == REVIVE_EVERY - 1 and again.task.model.revive is True  # in the pass that follows
    again.run()
    assert differences(dict(unbroken.task.model.state_dict()), dict(again.task.model.state_dict())) == []


def test_the_memory_check_leaves_codebooks_alone(recordings: Path, tmp_path: Path) -> None:
    options = codec_options(recordings, tmp_path)
    loop = Loop(CodecTask(options), options, World())
    before = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    try_largest(loop.task, loop.optimizer, loop.precision, loop.device, loop.world)
    assert differences(before, dict(loop.task.model.state_dict())) == []


def test_a_soundstream_begun_with_another_gain_is_not_resumed(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gain is no flag, and weights fit whatever it is: an earlier version built SoundStreams without one."""
    options = codec_options(recordings, tmp_path / "run", codec="soundstream", strides=[2, 160], channels=2)
    monkeypatch.setattr(codec_task, "GAIN", 1.0)
    train(options)
    monkeypatch.undo()
    with pytest.raises(OtherRunError, match=r"acoustic gain was not there, would be 10\.0"):
        train(options)
