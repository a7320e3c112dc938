"""Trains ``conversation`` from its options: what ``bin/trainer_audiolm.py --model-name conversation`` calls in every process."""

from __future__ import annotations

import json
import logging

from valle.files import write_text
from valle.training.conversation_options import ConversationOptions
from valle.training.conversation_task import ConversationTask
from valle.training.distributed import World, launch, pick_device
from valle.training.exp_lock import exp_dir_locked
from valle.training.logs import setup_logging
from valle.training.loop import Loop
from valle.training.run_folder import run_folder


def train_conversation(options: ConversationOptions) -> None:
    """Train on as many processes as asked for; ends with ``exp_dir/summary.json``."""
    with exp_dir_locked(options.exp_dir), run_folder(options.exp_dir):
        launch(_train, options.world_size, options.master_port, options, device=options.device)


def _train(world: World, options: ConversationOptions) -> None:
    pick_device(options.device, world)
    task = ConversationTask(options)  # first, so that what is refused leaves no folder behind
    setup_logging(options.exp_dir, world.rank)
    logging.info("Settings: %s", options)
    loop = Loop(task, options, world)
    loop.run()
    valid, train = loop.validate(), loop.evaluate(of_train=True)
    if world.is_first:
        summary = {
            name: {
                "train_nll": train[name][0] / train[name][1], "valid_nll": nats / count, "accuracy": hits / count, "valid_codes": count,
            }
            for name, (nats, count, hits) in valid.items()
        }  # fmt: skip
        run = {"steps": loop.progress.step, "epochs": loop.progress.epoch, "seconds": loop.progress.seconds, "dtype": loop.progress.dtype}
        write_text(options.exp_dir / "summary.json", json.dumps({**summary, **run}, indent=2) + "\n")
    loop.recorder.close()
