"""What a run carries from one process to the next: progress, averages, the best weights, and whose run it is."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from valle.models.checkpoint import CheckpointError, hyper_parameters, load_checkpoint, newest_checkpoint, remove_old, save_checkpoint
from valle.training.best_parts import assembled, losses_by_part
from valle.training.distributed import World
from valle.training.errors import OtherRunError
from valle.training.logs import Sums, means, own
from valle.training.options import LoopOptions
from valle.training.precision import Precision
from valle.training.sharding import load_optimizer, load_weights, whole
from valle.training.task import Task

# Settings that may change between a run and its continuation: they say how long and where, not what.
FREE = {
    "num_epochs", "max_steps", "max_minutes", "start_epoch", "start_batch", "exp_dir", "save_every_n", "keep_last_k", "valid_interval",
    "epoch_ends", "log_interval", "tensorboard", "visualize", "num_workers", "master_port", "device", "num_threads", "inf_check",
    "oom_check", "world_size", "max_bad_batches", "compile", "fsdp", "unit_bpe",  # whose content counts, not its place
}  # fmt: skip

# What runs had that were begun before there was a choice.
BEFORE = {"quantizer_dropout": 0.3, "gumbel_share": 0.0}

BEST_VALID = "best-valid-loss.pt"
NEEDED = ("model", "optimizer", "grad_scaler", "sampler", "model_avg", "dtype", "counters")  # to go on


@dataclass
class Progress:
    """Where a run stands; plain numbers, kept in every checkpoint."""

    epoch: int = 1
    batch: int = 0  # batches of this epoch that were trained on, on every rank
    step: int = 0
    seconds: float = 0.0
    best_valid: float = float("inf")
    best_train: float = float("inf")
    best_of_parts: dict[str, float] = field(default_factory=dict)  # dev loss of each part's best weights
    seen: dict[str, float] = field(default_factory=dict)  # longest crop of each part until now, seconds
    bad_in_a_row: int = 0  # batches just before that were not finite
    validated_at: int = -1
    valid: Sums = field(default_factory=dict)  # of the last validation
    recent: Sums = field(default_factory=dict)  # of training since the last log line,
    total: Sums = field(default_factory=dict)  # in this epoch,
    since_valid: Sums = field(default_factory=dict)  # and since the last validation
    logged_at: float = 0.0
    rate: float = 0.0
    grad_norm: float = 0.0
    dtype: str = ""


class RunState:
    """Saves and restores a run in ``exp_dir``."""

    def __init__(self, task: Task, options: LoopOptions, optimizer: torch.optim.Optimizer, world: World) -> None:
        self.task, self.options, self.optimizer, self.world = task, options, optimizer, world
        self.average: dict[str, Tensor] | None = None
        self.grad_scaler: dict[str, Any] | None = None

    def restore(self, device: torch.device) -> Progress:
        """Load the run that ``exp_dir`` holds, if any; another run's settings are refused by name."""
        path = self._chosen()
        if path is None:
            self._start_average()
            return Progress()
        state = load_checkpoint(path)
        missing = [key for key in NEEDED if key not in state]
        if missing:
            raise CheckpointError(
                f"expected a checkpoint of this trainer's in {path}, found one without {', '.join(missing)}; "
                "use another --exp-dir, with --init-from to take its weights"
            )
        self._refuse_other(state, path)
        try:
            load_weights(self.task.model, state["model"])
            load_optimizer(self.optimizer, state["optimizer"])
            progress = Progress(**state["counters"], dtype=state["dtype"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} does not fit its own settings ({reason}); use another checkpoint") from error
        self.grad_scaler = state["grad_scaler"]
        self.average = state["model_avg"] if self.world.is_first else None
        if not progress.best_of_parts and progress.best_valid < float("inf"):
            progress.best_of_parts = self._of_older_version()
        logging.info("Resuming from %s", path)
        return progress

    def _start_average(self) -> None:
        weights = whole(self.task.model.state_dict())
        if self.world.is_first:
            self.average = {name: tensor.detach().cpu().to(torch.float64, copy=True) for name, tensor in weights.items()}

    def update_average(self, step: int) -> None:
        """The running mean of the weights over all steps, moved every ``average_period`` steps, in float64 on the CPU."""
        period = self.options.average_period
        if step % period:
            return
        weights = whole(self.task.model.state_dict())
        if self.average is None or not self.world.is_first:
            return
        for name, tensor in weights.items():
            self.average[name].lerp_(tensor.detach().cpu().double(), min(1.0, period / step))

    def save(self, name: str, progress: Progress, precision: Precision) -> None:
        """Write ``exp_dir/name`` on the first process; others wait for it."""
        everything = self._everything(progress, precision)
        if self.world.is_first:
            save_checkpoint(self.options.exp_dir / name, everything)
            remove_old(self.options.exp_dir, self.options.keep_last_k)
        self.world.barrier()

    def _of_older_version(self) -> dict[str, float]:
        """The parts' dev losses of a best file that was chosen by their sum."""
        path = self.options.exp_dir / BEST_VALID
        try:
            return losses_by_part(load_checkpoint(path)["counters"]["valid"], self.task.part_of) if path.is_file() else {}
        except (CheckpointError, KeyError, TypeError, ValueError):
            return {}

    def keep_best_valid(self, progress: Progress) -> None:
        """``best-valid-loss.pt``: of each part the very weights that scored best on the dev set, assembled."""
        progress.best_valid = min(progress.best_valid, sum(means(own(progress.valid)).values()))
        losses = losses_by_part(progress.valid, self.task.part_of)
        improved = {part for part, loss in losses.items() if loss < progress.best_of_parts.get(part, float("inf"))}
        if not improved:
            return
        progress.best_of_parts = {**progress.best_of_parts, **{part: losses[part] for part in improved}}
        weights = self._weights(progress)
        if self.world.is_first:
            path = self.options.exp_dir / BEST_VALID
            parts = {part: parameters for part, parameters in self.task.part_parameters().items() if part in progress.best_of_parts}
            save_checkpoint(path, {**weights, "model": assembled(self.task.model, weights["model"], parts, improved, path)})

    def keep_best_train(self, loss: float, progress: Progress) -> None:
        """``best-train-loss.pt``, by the mean since the last validation."""
        if loss < progress.best_train:
            progress.best_train = loss
            weights = self._weights(progress)
            if self.world.is_first:
                save_checkpoint(self.options.exp_dir / "best-train-loss.pt", weights)

    def _chosen(self) -> Path | None:
        options = self.options
        if options.start_batch:
            return options.exp_dir / f"checkpoint-{options.start_batch}.pt"
        if options.start_epoch > 1:
            return options.exp_dir / f"epoch-{options.start_epoch - 1}.pt"
        return newest_checkpoint(options.exp_dir)

    def _refuse_other(self, state: dict[str, Any], path: Path) -> None:
        fields = self.task.checkpoint_fields()
        state = {**BEFORE, **state}
        ours = {**hyper_parameters(self.options), **{key: fields.get(key) for key in ("identities", "timeline", "unit_bpe_sha256")}}
        differing = [key for key, value in ours.items() if key not in FREE and key in state and key != "dtype" and state[key] != value]
        processes = len(state["sampler"]["batches_done"])
        if processes != self.world.size:
            raise OtherRunError(
                f"{path} was trained with {processes} processes; resuming with {self.world.size} would change the batches; "
                f"use --world-size {processes}, or another --exp-dir with --init-from"
            )
        asked, stored = self.options.dtype, state["dtype"]
        if asked not in ("auto", stored):
            differing.append("dtype")
        stored_values = {**state, "dtype": stored}
        if differing:
            changes = [(key.replace("_", "-"), _short(stored_values.get(key)), _short(ours.get(key))) for key in differing]
            listing = "; ".join(f"--{flag} was {before}, now {now}" for flag, before, now in changes)
            raise OtherRunError(f"{path.parent} holds a run with different settings ({listing}); use those, or another --exp-dir")
        before, now = _tokenizer_settings(state), _tokenizer_settings(fields)
        changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        if changed:
            listing = "; ".join(f"{name} was {before.get(name, 'not there')}, would be {now.get(name, 'not there')}" for name in changed)
            raise OtherRunError(
                f"{path.parent} holds a run whose tokenizer this version builds otherwise ({listing}); "
                "use the version that began it, or another --exp-dir"
            )

    def _weights(self, progress: Progress) -> dict[str, Any]:
        counters = asdict(progress)
        dtype = counters.pop("dtype")
        fields = {key: value for key, value in self.task.checkpoint_fields(progress.seen).items() if key != "dtype"}
        return {**fields, "model": whole(self.task.model.state_dict()), "dtype": dtype, "counters": counters}

    def _everything(self, progress: Progress, precision: Precision) -> dict[str, Any]:
        return {
            **self._weights(progress),
            "optimizer": whole(self.optimizer.state_dict()),
            "scheduler": {"name": self.options.scheduler_name, "step": progress.step, "epoch": progress.epoch, "lr": progress.rate},
            "grad_scaler": precision.state(),
            "sampler": {"epoch": progress.epoch, "batches_done": [progress.batch] * self.world.size},
            "model_avg": self.average,
        }


def _tokenizer_settings(fields: dict[str, Any]) -> dict[str, Any]:
    """What the tokenizers of a checkpoint are built from, ``"acoustic gain": 10.0``: not all of it is a flag."""
    tokenizers = {kind: state for kind, state in (fields.get("tokenizers") or {}).items() if state}
    return {f"{kind} {key}": value for kind, state in tokenizers.items() for key, value in state["config"].items()}


def _short(value: Any) -> str:
    if isinstance(value, dict):
        inner = value.get("acoustic") or value.get("codes")
        return str(inner.get("sha256", inner))[:12] if isinstance(inner, dict) else str(value)
    return str(value)
