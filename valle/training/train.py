"""Trains an AudioLM from its options: what ``bin/trainer_audiolm.py`` calls in every process."""

from __future__ import annotations

import json
import logging

from valle.files import write_text
from valle.memory import peak_memory_gib
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World, launch, pick_device
from valle.training.exp_lock import exp_dir_locked
from valle.training.logs import setup_logging
from valle.training.loop import Loop
from valle.training.options import AudioLMOptions
from valle.training.run_folder import run_folder
from valle.training.summary import summarise


def train_audio_lm(options: AudioLMOptions) -> None:
    """Train on as many processes as asked for; ends with ``exp_dir/summary.json``."""
    with exp_dir_locked(options.exp_dir), run_folder(options.exp_dir):
        launch(_train, options.world_size, options.master_port, options, device=options.device)


def _train(world: World, options: AudioLMOptions) -> None:
    pick_device(options.device, world)
    task = AudioLMTask(options)  # first, so that what is refused leaves no folder behind
    setup_logging(options.exp_dir, world.rank)
    logging.info("Settings: %s", options)
    loop = Loop(task, options, world)
    loop.run()
    valid, train = loop.validate(), loop.evaluate(of_train=True)
    if world.is_first:
        path = options.exp_dir / "summary.json"
        summary = summarise(task, train=train, valid=valid)
        summary.update(steps=loop.progress.step, epochs=loop.progress.epoch, seconds=loop.progress.seconds, dtype=loop.progress.dtype)
        summary.update(peak_memory_gib=round(peak_memory_gib(), 2))
        write_text(path, json.dumps(summary, indent=2) + "\n")
    loop.recorder.close()
