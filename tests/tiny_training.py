"""Training runs that take a second, in this process or in others, and what they leave behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import torch
from tiny_corpus import CODEBOOKS, Corpus, write_corpus

from valle.models.checkpoint import load_checkpoint
from valle.training.audio_lm_task import AudioLMTask
from valle.training.codec_task import CodecOptions, CodecTask
from valle.training.distributed import World, launch
from valle.training.logs import setup_logging
from valle.training.loop import Loop
from valle.training.options import AudioLMOptions, LoopOptions
from valle.training.train import train_audio_lm
from valle.training.train_codec import train_codec

TINY: dict[str, Any] = {
    "decoder_dim": 16, "nhead": 2, "num_decoder_layers": 1, "num_quantizers": CODEBOOKS, "max_duration": 9.0, "filter_min_duration": 0.4,
    "num_buckets": 2, "num_epochs": 2, "save_every_n": 3, "valid_interval": 5, "log_interval": 1, "average_period": 2, "warmup_steps": 4,
    "num_workers": 0, "dtype": "float32", "device": "cpu", "tensorboard": False, "coarse_seconds": 2.0, "fine_seconds": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run and its last checkpoint."""

    exp_dir: Path
    state: dict[str, Any]


def tiny_options(manifests: Path, exp_dir: Path, **changes: Any) -> AudioLMOptions:
    """Two epochs of about five steps of a model of a few thousand parameters."""
    return AudioLMOptions(**{**TINY, "manifest_dir": manifests, "exp_dir": exp_dir, **changes})


def tiny_manifests(folder: Path, **sizes: Any) -> Path:
    """Tokenized cuts that make about five batches an epoch."""
    return write_corpus(folder, Corpus(**{"num_train": 14, "num_dev": 4, "longest": 3.0, **sizes}))


def tiny_loop(options: AudioLMOptions, world: World | None = None) -> Loop:
    """A loop that has not started."""
    return Loop(AudioLMTask(options), options, world or World())


def train(options: LoopOptions) -> dict[str, Any]:
    """Run to the end in this process -> the newest checkpoint."""
    train_codec(options) if isinstance(options, CodecOptions) else train_audio_lm(options)  # type: ignore[arg-type]
    return load_checkpoint(options.exp_dir / f"epoch-{options.num_epochs}.pt")


class Dying:
    """Mixed into a task: the process, and all that it started, is killed by SIGKILL right after a step."""

    dies_after = 0

    def after_step(self, step: int, share_done: float) -> None:
        super().after_step(step, share_done)  # type: ignore[misc]
        if step == self.dies_after:
            os.killpg(0, signal.SIGKILL)


class DyingAudioLMTask(Dying, AudioLMTask):
    pass


class DyingCodecTask(Dying, CodecTask):
    pass


def run_until_killed(world: World, options: LoopOptions, step: int) -> None:
    """A run that does not live past ``step``."""
    setup_logging(options.exp_dir, world.rank)
    task = DyingCodecTask(options) if isinstance(options, CodecOptions) else DyingAudioLMTask(options)  # type: ignore[arg-type]
    task.dies_after = step
    Loop(task, options, world).run()


def run_to_end(world: World, options: AudioLMOptions) -> None:
    setup_logging(options.exp_dir, world.rank)
    Loop(AudioLMTask(options), options, world).run()


def in_processes(run: Callable[..., None], *args: Any, size: int = 1) -> list[int]:
    """Call ``run(world, *args)`` in ``size`` fresh processes that meet over gloo, as under torchrun -> their exit codes.

    They come from one server that has imported everything, so that a process costs a moment and not seconds.
    """
    context = _server()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [context.Process(target=_one, args=(rank, size, port, run, args)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


@cache
def _server() -> ForkServerContext:
    """Started where it finds the tests' modules, so that it imports them once for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_training"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    return context


def _one(rank: int, size: int, port: int, run: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.setpgid(0, 0)
    multiprocessing.set_start_method("fork", force=True)  # for the readers of batches, as under torchrun
    torch.set_num_threads(1)
    if size > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    launch(run, size, port, *args, device="cpu")


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two checkpoints differ, bit for bit."""
    if isinstance(left, torch.Tensor):
        same = isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
        return [] if same else [path]
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return [f"{path}: keys {sorted(map(str, left.keys() ^ right.keys()))}"]
        return [found for key in left for found in differences(left[key], right[key], f"{path}/{key}")]
    if isinstance(left, list):
        return [found for index, pair in enumerate(zip(left, right, strict=True)) for found in differences(*pair, f"{path}/{index}")]
    return [] if left == right else [f"{path}: {left} and {right}"]


STATE = ("model", "optimizer", "scheduler", "grad_scaler", "sampler", "model_avg", "counters")
TIMES = ("seconds", "logged_at")


def progress_of(state: dict[str, Any]) -> dict[str, Any]:
    """What two runs of one configuration must agree on, bit for bit: all but the clock."""
    kept = {key: state[key] for key in STATE}
    return {**kept, "counters": {key: value for key, value in state["counters"].items() if key not in TIMES}}
