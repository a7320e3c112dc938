"""The one training loop: whatever a ``Task`` binds together, on one process or many, resumable bit for bit."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from valle.training.checkpoint import save_checkpoint
from valle.training.distributed import World, pick_device
from valle.training.errors import BrokenBatchError
from valle.training.logs import Recorder, Sums, add_sums, loss_text, means, sums_of
from valle.training.optim import build_optimizer, learning_rate
from valle.training.options import LoopOptions
from valle.training.precision import Precision, resolve_dtype
from valle.training.resume import Progress, RunState
from valle.training.task import Batch, Task

LOSS_SCALE = 1000.0  # a backward pass runs on sum / LOSS_SCALE, and the true count divides afterwards


class Loop:
    """One run of one task."""

    def __init__(self, task: Task, options: LoopOptions, world: World) -> None:
        self.task, self.options, self.world = task, options, world
        self.device = pick_device(options.device, world)
        if options.num_threads:
            torch.set_num_threads(options.num_threads)
        task.model.to(self.device)
        self.optimizer = build_optimizer(task.model, options)
        self.state = RunState(task, options, self.optimizer, world)
        self.progress: Progress = self.state.restore(self.device)
        dtype = self.progress.dtype or world.broadcast(resolve_dtype(task, options, self.device, world))
        self.progress.dtype = dtype
        self.precision = Precision(dtype, self.device)
        self.precision.load(self.state.grad_scaler)
        self.parts = task.part_parameters()
        self.model = self._wrapped()
        self.recorder = Recorder(options.exp_dir, enabled=world.is_first, tensorboard=options.tensorboard)
        self.recorder.forget_after(self.progress.step)
        self.total: Sums = {}
        self.recent: Sums = {}
        self.started = time.monotonic() - self.progress.seconds
        self.last_validation: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        """Train until the last epoch, step or minute -> the dev set's nats a target by part, at the end."""
        options = self.options
        if options.oom_check:
            self._try_longest()
        while self.progress.epoch <= options.num_epochs and not self._is_over():
            self.total = {}
            self._train_epoch()
            self.validate()
            if self._is_over():
                self._save(f"checkpoint-{self.progress.step}.pt")
                break
            finished = self.progress.epoch
            self.progress.epoch, self.progress.batch = finished + 1, 0
            self._save(f"epoch-{finished}.pt")
        logging.info("Done after %d steps and %.1f minutes", self.progress.step, self._seconds() / 60)
        return self.last_validation

    def _train_epoch(self) -> None:
        progress, options = self.progress, self.options
        batches = self._batches()
        bar = tqdm(desc=f"epoch {progress.epoch}", unit="step", disable=not self.world.is_first or None, initial=progress.step, leave=False)
        for micro_batches in grouped(batches, options.accumulate_grad_steps):
            if self._is_over():
                break
            progress.step += 1
            progress.batch += len(micro_batches)
            self.train_step(micro_batches)
            bar.update()
            self._after_step(micro_batches[-1])
        bar.close()

    def _batches(self) -> Iterator[Batch]:
        progress = self.progress
        batches = self.task.batches(epoch=progress.epoch, skip=progress.batch, world=self.world)
        if self.options.overfit_one_batch:
            first = next(iter(self.task.batches(epoch=1, skip=0, world=self.world)))
            batches = (first for _ in range(max(self.options.max_steps, 100) if progress.batch == 0 else 0))
        return batches

    def train_step(self, micro_batches: list[Batch]) -> Sums:
        """Gradients of the mean over all ranks and micro-batches, exactly, and one step of the optimizer."""
        progress, options = self.progress, self.options
        torch.manual_seed(mix(options.seed, self.world.rank, progress.step))
        self.task.model.train()
        sums: Sums = {}
        for index, batch in enumerate(micro_batches):
            batch = self.task.to_device(batch, self.device)
            last = index == len(micro_batches) - 1
            if isinstance(self.model, DistributedDataParallel):
                self.model.require_backward_grad_sync = last  # what no_sync() sets
            with self.precision.autocast():
                parts = self.model(batch)
            loss = torch.stack([part.sum for part in parts.values()]).sum() / LOSS_SCALE
            self.precision.scale(loss).backward()
            add_sums(sums, sums_of(parts))
        sums = self._sum_over_ranks(sums)
        self._refuse_broken(sums, micro_batches)
        self._divide_by_counts(sums)
        rate = learning_rate(options, step=progress.step, epoch=progress.epoch, share_done=self._share_done())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        progress.grad_norm = self.precision.step(self.optimizer, self.task.model, options.clip_grad_norm)
        self.optimizer.zero_grad(set_to_none=True)
        self.task.after_step(progress.step)
        progress.rate = rate
        self.state.update_average(progress.step)
        add_sums(self.recent, sums)
        add_sums(self.total, sums)
        return sums

    def _divide_by_counts(self, sums: Sums) -> None:
        """DDP left the mean over ranks of d(sum / LOSS_SCALE); each part's own global count makes it a mean over targets."""
        for name, parameters in self.parts.items():
            count = sums[name][1]
            if count:
                factor = LOSS_SCALE * self.world.size / count
                torch._foreach_mul_([parameter.grad for parameter in parameters if parameter.grad is not None], factor)

    def _sum_over_ranks(self, sums: Sums) -> Sums:
        if self.world.size == 1:
            return sums
        names = list(self.parts) if set(sums) <= set(self.parts) else sorted(sums)
        table = torch.tensor([sums.get(name, (0.0, 0.0, 0.0)) for name in names], dtype=torch.float64, device=self.device)
        return {name: tuple(row) for name, row in zip(names, self.world.sum(table).tolist(), strict=True)}  # type: ignore[misc]

    def _refuse_broken(self, sums: Sums, micro_batches: list[Batch]) -> None:
        broken = [name for name, (nats, _, _) in sums.items() if nats != nats or nats in (float("inf"), float("-inf"))]
        if not broken:
            return
        path = self.options.exp_dir / f"batch-{self.progress.step}.pt"
        suffix = path if self.world.is_first else path.with_stem(f"{path.stem}-rank{self.world.rank}")
        save_checkpoint(suffix, {"batches": micro_batches, "step": self.progress.step, "seed": self.options.seed})
        culprit = first_not_finite(self.task.model, self.task.to_device(micro_batches[-1], self.device)) if self.options.inf_check else None
        raise BrokenBatchError(step=self.progress.step, parts=broken, path=suffix, module=culprit, dtype=self.precision.name)

    def _after_step(self, batch: Batch) -> None:
        progress, options = self.progress, self.options
        if progress.step % options.log_interval == 0:
            self._log(batch)
        if progress.step % options.valid_interval == 0:
            self.validate()
        if options.save_every_n and progress.step % options.save_every_n == 0:
            self._save(f"checkpoint-{progress.step}.pt")

    def _log(self, batch: Batch) -> None:
        progress, about = self.progress, self.task.describe(batch)
        logging.info(
            "Epoch %d, batch %d, loss%s, tot_loss%s, batch size: %d, lr: %.2e, padding: %.1f%%",
            progress.epoch, progress.batch, loss_text(self.recent), loss_text(self.total), about["batch_size"], progress.rate, 100 * about["padding"],
        )  # fmt: skip
        self.recorder.scalars("current", self.recent, progress.step)
        self.recorder.scalars("tot", self.total, progress.step)
        self.recorder.scalar("train/learning_rate", progress.rate, progress.step)
        self.recorder.scalar("train/grad_norm", progress.grad_norm, progress.step)
        seconds = self._seconds()
        frames = sum(count for _, count, _ in self.recent.values())
        self.recorder.scalar("train/targets_per_second", frames / max(seconds - progress.logged_at, 1e-9), progress.step)
        self.recorder.curve(progress.step, seconds, "train", self.recent)
        progress.logged_at = seconds
        if self.world.is_first and means(self.recent):
            self.state.keep_best_train(sum(means(self.recent).values()), progress)
        self.recent = {}

    def validate(self) -> dict[str, float]:
        """Nats a target of every part on the dev set; the weights are kept if they are the best so far."""
        if self.progress.validated_at == self.progress.step:
            return self.last_validation
        sums = self.evaluate()
        progress = self.progress
        progress.validated_at = progress.step
        logging.info("Epoch %d, validation: loss%s", progress.epoch, loss_text(sums))
        self.recorder.scalars("valid", sums, progress.step)
        self.recorder.curve(progress.step, self._seconds(), "valid", sums)
        self.last_validation = means(sums)
        self.state.keep_best_valid(sum(self.last_validation.values()), progress, self.precision)
        if self.options.visualize and self.world.is_first:
            self.task.model.eval()
            for tag, wav, sample_rate in self.task.samples(progress.step):
                self.recorder.audio(tag, wav, sample_rate, progress.step)
        return self.last_validation

    def evaluate(self, *, of_train: bool = False) -> Sums:
        """Sums over the fixed validation batches (or as many train cuts), over all ranks, without dropout."""
        self.task.model.eval()
        sums: Sums = {}
        with torch.inference_mode(), self.precision.autocast():
            for batch in self.task.validation_batches(self.world, of_train=of_train):
                add_sums(sums, sums_of(self.task.validation_loss(self.task.to_device(batch, self.device))))
        if self.world.size > 1:
            names = sorted({name for rank in self._gather_names(sums) for name in rank})
            table = torch.tensor([sums.get(name, (0.0, 0.0, 0.0)) for name in names], dtype=torch.float64, device=self.device)
            sums = {name: tuple(row) for name, row in zip(names, self.world.sum(table).tolist(), strict=True)}  # type: ignore[misc]
        return sums

    def _gather_names(self, sums: Sums) -> list[list[str]]:
        gathered: list[Any] = [None] * self.world.size
        torch.distributed.all_gather_object(gathered, list(sums))
        return gathered

    def _save(self, name: str) -> None:
        self.progress.seconds = self._seconds()
        self.state.save(name, self.progress, self.precision)

    def _wrapped(self) -> nn.Module:
        if self.world.size == 1:
            return self.task.model
        ids = [self.world.local_rank] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.task.model, device_ids=ids, gradient_as_bucket_view=True)

    def _seconds(self) -> float:
        return time.monotonic() - self.started

    def _share_done(self) -> float:
        options = self.options
        by_steps = self.progress.step / options.max_steps if options.max_steps else 0.0
        by_time = self._seconds() / (60 * options.max_minutes) if options.max_minutes else 0.0
        return self.world.broadcast(max(by_steps, by_time)) if options.max_minutes else by_steps

    def _is_over(self) -> bool:
        options = self.options
        over = bool(options.max_steps) and self.progress.step >= options.max_steps
        if options.max_minutes:
            over = over or bool(self.world.broadcast(self._seconds() >= 60 * options.max_minutes))
        return over

    def _try_longest(self) -> None:
        """One pass over the largest of the first batches of a sampler of its own, before anything is trained."""
        from itertools import islice

        largest = max(islice(self.task.batches(epoch=1, skip=0, world=self.world), 20), key=lambda batch: self.task.describe(batch)["frames"])
        with self.precision.autocast():
            parts = self.task.model(self.task.to_device(largest, self.device))
        torch.stack([part.sum for part in parts.values()]).sum().backward()
        self.optimizer.zero_grad(set_to_none=True)
        logging.info("The largest of the first batches fits")


def grouped(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of ``size`` batches; the last may be shorter."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def mix(seed: int, rank: int, step: int) -> int:
    """One seed out of three numbers, so that no generator's state needs to be stored."""
    return int.from_bytes(blake2b(f"{seed}|{rank}|{step}".encode(), digest_size=7).digest(), "big")


def first_not_finite(model: nn.Module, batch: Any) -> str | None:
    """The name of the first module whose output is not finite on ``batch``."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(name)

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    with torch.no_grad():
        model(batch)
    for handle in handles:
        handle.remove()
    return found[0] if found else None
