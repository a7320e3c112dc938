"""Trains an AudioLM from its options: what ``bin/trainer_audiolm.py`` calls in every process."""

from __future__ import annotations

import json
import logging
from typing import Any

from valle.memory import peak_memory_gib
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World, launch, pick_device
from valle.training.logs import Sums, setup_logging
from valle.training.loop import Loop
from valle.training.options import AudioLMOptions
from valle.training.unit_sequence import semantic_summary

FINE_KEYS = ("levels", "nll_per_codebook", "train_nll_per_codebook", "unigram_nll_per_codebook", "accuracy_per_codebook")


def train_audio_lm(options: AudioLMOptions) -> None:
    """Train on as many processes as asked for; ends with ``exp_dir/summary.json``."""
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
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    loop.recorder.close()


def summarise(task: AudioLMTask, *, train: Sums, valid: Sums) -> dict[str, Any]:
    """Nats a token by part, train measured like valid on as many cuts, beside the unigram's; fine by codebook."""
    unigram = task.unigram_nll()
    summary: dict[str, Any] = {}
    for name, (nats, count, hits) in valid.items():
        if name.partition("_")[0] == "semantic":
            if "semantic" not in summary:
                summary["semantic"] = semantic_summary(task, train=train, valid=valid, unigram=unigram)
            continue
        row = {
            "train_nll": train[name][0] / train[name][1],
            "valid_nll": nats / count,
            "unigram_nll": unigram[name],
            "accuracy": hits / count,
            "valid_tokens": count,
        }
        if name.startswith("fine_"):
            fine = summary.setdefault("fine", {key: [] for key in FINE_KEYS})
            fine["levels"].append(int(name.removeprefix("fine_")))
            fine["nll_per_codebook"].append(row["valid_nll"])
            fine["train_nll_per_codebook"].append(row["train_nll"])
            fine["unigram_nll_per_codebook"].append(row["unigram_nll"])
            fine["accuracy_per_codebook"].append(row["accuracy"])
        else:
            summary[name] = row
    return summary
