"""Going on from another model: its sizes as trainer settings, and what it scores before anything is learned."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from valle.errors import UserError
from valle.files import write_text
from valle.models.checkpoint import load_checkpoint, plain
from valle.models.config import ALWAYS_THERE, AudioLMConfig
from valle.models.registry import SEMANTIC_STAGES, acoustic_type
from valle.models.released import read_released_config
from valle.outputs import claim_file
from valle.settings import sizes_of
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World
from valle.training.logs import Sums, add_sums, sums_of
from valle.training.options import AudioLMOptions
from valle.training.summary import summarise


@dataclass(frozen=True)
class SettingsOf:
    """Whose settings to write, and where."""

    init_from: Path = field(default=Path("model"), metadata={"help": "checkpoint or released folder"})
    output: Path = field(default=Path("exp/finetune.yaml"), metadata={"help": "YAML file for trainer_audiolm.py --config"})


@dataclass(frozen=True)
class EvaluateOptions(AudioLMOptions):
    """A model named by ``init_from`` and the manifests to score it on; sizes are the model's own."""

    output: Path | None = field(default=None, metadata={"help": "JSON file for the figures"})


def trainer_settings(source: Path) -> dict[str, Any]:
    """Flags of ``trainer_audiolm.py`` that build a model of the same shape, trained on crops as long."""
    if source.is_dir():
        config = read_released_config(source)
        sizes, seconds = config["model"], {f"{stage}_seconds": value for stage, value in config["trained_seconds"].items()}
    else:
        sizes = load_checkpoint(source)
        seconds = {**sizes, **{f"{stage}_seconds": value for stage, value in sizes.get("trained_seconds", {}).items()}}
    missing = [name for name in ALWAYS_THERE if name not in sizes]
    if missing:
        raise UserError(
            f"expected an AudioLM's settings in {source}, found none of {', '.join(missing)}; "
            "use what trainer_audiolm.py or export.py wrote"
        )
    flags = {flag: sizes.get(name, getattr(AudioLMConfig, name)) for name, flag in sizes_of(AudioLMConfig).items()}
    stages = [*SEMANTIC_STAGES.values(), *acoustic_type(flags["acoustic_model"]).stage_types]
    asked = dict.fromkeys(f"{stage.name}_seconds" for stage in stages)  # a checkpoint holds flags of other models' stages too
    return {
        **flags,
        **({"unit_bpe": source} if flags["unit_sequence"] == "bpe" else {}),
        **{name: float(seconds[name]) for name in asked if name in seconds},
    }


def write_trainer_settings(options: SettingsOf) -> dict[str, Any]:
    """``trainer_settings`` as a file, whole or not at all."""
    outputs = claim_file(options.output, program="settings_of_model", inputs=[options.init_from])
    settings = trainer_settings(options.init_from)
    title = f"# The shape of {options.init_from}, for --init-from.\n"
    with outputs.being_written():
        write_text(options.output, title + yaml.safe_dump(plain(settings), sort_keys=False))
    return settings


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Nats a token of the dev cuts, and of as many train cuts, under the model of ``init_from``, as the trainer's own summary; fp32."""
    outputs = None
    if options.output is not None:
        outputs = claim_file(options.output, program="evaluate_audiolm", inputs=[path for path in [options.init_from] if path is not None])
    task = scoring_task(options)
    summary = summarise(task, train=sums_over(task, of_train=True), valid=sums_over(task, of_train=False))
    if outputs is not None and options.output is not None:
        with outputs.being_written():
            write_text(options.output, json.dumps(summary, indent=2) + "\n")
    return summary


def scoring_task(options: EvaluateOptions) -> AudioLMTask:
    """The model of ``init_from`` on the manifests, to be scored as a trainer's validation scores it."""
    if options.init_from is None:
        raise UserError("expected the model to score after --init-from, found none; name a checkpoint or a released folder")
    known = {entry.name for entry in fields(options)}
    sizes = {name: value for name, value in trainer_settings(options.init_from).items() if name in known}
    task = AudioLMTask(replace(options, **sizes))
    task.model.eval()
    return task


def sums_over(task: AudioLMTask, *, of_train: bool) -> Sums:
    """What validation sums up, over the fixed dev cuts or as many train cuts, with the weights as they are."""
    total: Sums = {}
    for sums in batch_sums(task, of_train=of_train):
        add_sums(total, sums)
    return total


def batch_sums(task: AudioLMTask, *, of_train: bool) -> list[Sums]:
    """The same of every batch by itself."""
    with torch.inference_mode():
        return [sums_of(task.validation_loss(batch)) for batch in task.validation_batches(World(), of_train=of_train)]

