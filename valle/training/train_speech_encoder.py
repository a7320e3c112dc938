"""Trains a speech encoder from its options: what ``bin/trainer_speech_encoder.py`` calls in every process."""

from __future__ import annotations

import json
import logging

from valle.files import write_text
from valle.training.distributed import World, launch
from valle.training.exp_lock import exp_dir_locked
from valle.training.logs import setup_logging
from valle.training.loop import Loop
from valle.training.run_folder import run_folder
from valle.training.speech_encoder_options import SpeechEncoderOptions
from valle.training.speech_encoder_task import SpeechEncoderTask


def train_speech_encoder(options: SpeechEncoderOptions) -> None:
    """Train on as many processes as asked for; ends with ``exp_dir/summary.json``."""
    with exp_dir_locked(options.exp_dir), run_folder(options.exp_dir):
        launch(_train, options.world_size, options.master_port, options, device=options.device)


def _train(world: World, options: SpeechEncoderOptions) -> None:
    setup_logging(options.exp_dir, world.rank)
    logging.info("Settings: %s", options)
    loop = Loop(SpeechEncoderTask(options, world), options, world)
    loop.run()
    valid = loop.validate()
    if world.is_first:
        summary = {
            name: {"valid_loss": nats / count, "accuracy": hits / count, "valid_targets": count}
            for name, (nats, count, hits) in valid.items()
        }
        progress = loop.progress
        run = {"steps": progress.step, "seconds": progress.seconds, "dtype": progress.dtype}
        write_text(options.exp_dir / "summary.json", json.dumps({**summary, **run}, indent=2) + "\n")
    loop.recorder.close()
