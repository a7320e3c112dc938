"""The one training loop: whatever a ``Task`` binds together, on one process or many, resumable bit for bit."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from valle.data.workers import explaining_dead_readers
from valle.errors import UserError
from valle.memory import MemoryKeeper
from valle.models.loss import LossTerm
from valle.seeds import step_seed
from valle.training.bad_batches import BadBatches, NotFiniteError
from valle.training.clock import Clock
from valle.training.compiled import compile_forward
from valle.training.diagnose import first_not_finite
from valle.training.distributed import World, pick_device
from valle.training.errors import BrokenBatchError, MemoryShortError
from valle.training.logs import Recorder, Sums, add_sums, loss_text, means, sums_of
from valle.training.memory_check import try_largest
from valle.training.optim import build_optimizer, learning_rate
from valle.training.options import LoopOptions
from valle.training.precision import Precision, resolve_dtype
from valle.training.resume import Progress, RunState
from valle.training.sharding import shard
from valle.training.task import Batch, Task

OVERFIT_BATCHES = 100  # repeats of the one batch that count as an epoch
MEMORY_SLACK = 768 * 2**20  # bytes that freed memory may take before it is given back: batches of many shapes leave much of it
LOSS_SCALE = 1000.0  # a backward pass runs on sum / LOSS_SCALE, and the true count divides afterwards


class Loop:
    """One run of one task."""

    def __init__(self, task: Task, options: LoopOptions, world: World, *, now: Callable[[], float] = time.monotonic) -> None:
        """``now`` is the clock that bounds a run in minutes."""
        self.task, self.options, self.world = task, options, world
        self.device = pick_device(options.device, world)
        if options.num_threads:
            torch.set_num_threads(options.num_threads)
        task.model.to(self.device)
        if options.is_sharded:
            shard(task.model, world, self.device)  # before the optimizer, which takes the shards
        self.parts = task.part_parameters()
        self.optimizer = build_optimizer(task.model, options, self.parts)
        self.state = RunState(task, options, self.optimizer, world)
        self.progress: Progress = self.state.restore(self.device)
        task.validation_batches(world)  # what dev cuts must be like is said now, and not at the first validation
        dtype = self.progress.dtype or world.broadcast(resolve_dtype(task, options, self.device, world))
        self.progress.dtype = dtype
        self.precision = Precision(dtype, self.device)
        self.precision.load(self.state.grad_scaler)
        self.model = self._wrapped()
        self.bad, self.memory = BadBatches(options, world), MemoryKeeper(slack=MEMORY_SLACK)
        self.clock = Clock(options, world, seconds=self.progress.seconds, now=now)  # not before: choosing a format costs no training
        if self.progress.step:
            task.after_step(self.progress.step, self._share_done())  # what it sets for the next step is no part of a checkpoint
        self.recorder = Recorder(options.exp_dir, enabled=world.is_first, tensorboard=options.tensorboard, step=self.progress.step)

    def run(self) -> dict[str, float]:
        """Train until the last epoch, step or minute -> the dev set's nats a target by part, at the end."""
        with explaining_dead_readers():
            return self._run()

    def _run(self) -> dict[str, float]:
        options = self.options
        if options.oom_check:
            try_largest(self.task, self.optimizer, self.precision, self.device, self.world)
        self.clock.restart(self.progress.seconds)
        while self.progress.epoch <= options.num_epochs and not self._is_over():
            self._train_epoch()
            if self._is_over():
                self.validate()
                self._save(f"checkpoint-{self.progress.step}.pt")
                break
            finished = self.progress.epoch
            if options.epoch_ends or finished == options.num_epochs:
                self.validate()
            self.progress.epoch, self.progress.batch, self.progress.total = finished + 1, 0, {}
            if options.epoch_ends or finished == options.num_epochs:
                self._save(f"epoch-{finished}.pt")
        logging.info("Done after %d steps and %.1f minutes", self.progress.step, self._seconds() / 60)
        return means(self.progress.valid)

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
        if progress.batch == 0 and not self._is_over():
            raise UserError(
                f"expected at least one batch in epoch {progress.epoch}, found none; "
                "lower --max-duration or --num-buckets, or leave out --drop-last, which leaves out batches that are not full"
            )

    def _batches(self) -> Iterator[Batch]:
        progress = self.progress
        batches = self.task.batches(epoch=progress.epoch, skip=progress.batch, world=self.world)
        if self.options.overfit_one_batch:
            first = next(iter(self.task.batches(epoch=1, skip=0, world=self.world)))
            batches = (first for _ in range(progress.batch, OVERFIT_BATCHES))
        return batches

    def train_step(self, micro_batches: list[Batch]) -> Sums:
        """One step of the optimizer on the mean over all ranks and micro-batches; nothing where that is not finite."""
        progress = self.progress
        torch.manual_seed(step_seed(self.options.seed, self.world.rank, progress.step))
        buffers = [(buffer, buffer.clone()) for buffer in self.task.model.buffers()]  # such as codebooks, which a pass moves
        try:
            sums = self.gradients(micro_batches)
            self._optimize()
        except torch.OutOfMemoryError as error:
            raise MemoryShortError(step=progress.step, device=str(self.device)) from error
        except NotFiniteError as error:
            self._pass_over(error.what, micro_batches)
            for buffer, before in buffers:
                buffer.copy_(before)
            sums = {}
        else:
            progress.bad_in_a_row = 0
            for batch in micro_batches:
                for part, seconds in self.task.seen_seconds(batch).items():
                    progress.seen[part] = max(seconds, progress.seen.get(part, 0.0))
        self.optimizer.zero_grad(set_to_none=True)
        self.task.after_step(progress.step, self._share_done())
        self.state.update_average(progress.step)
        for kept in (progress.recent, progress.total, progress.since_valid):
            add_sums(kept, sums)
        return sums

    def _optimize(self) -> None:
        """Move the weights by their gradients, at the rate of this step; raises ``NotFiniteError``, with nothing moved."""
        progress, options = self.progress, self.options
        progress.rate = learning_rate(options, step=progress.step, epoch=progress.epoch, share_done=self._share_done())
        for group in self.optimizer.param_groups:
            group["lr"] = progress.rate * (options.rate_of_part(group["part"], progress.step) if "part" in group else 1.0)
        norm = self.precision.step(self.optimizer, self.task.model, options.clip_grad_norm, apart=list(self.parts.values()))
        if self.precision.is_broken(norm):
            raise NotFiniteError(["the gradients"])
        progress.grad_norm = norm

    def gradients(self, micro_batches: list[Batch]) -> Sums:
        """Leave in every parameter the gradient of its part's mean over all ranks and micro-batches -> the sums of all."""
        self.task.model.train()
        found: list[dict[str, LossTerm]] = []
        for index, batch in enumerate(micro_batches):
            batch = self.task.to_device(batch, self.device)
            if isinstance(self.model, DistributedDataParallel):
                self.model.require_backward_grad_sync = index == len(micro_batches) - 1  # what no_sync() sets
            with self.precision.autocast():
                parts = self.model(batch)
            loss = torch.stack([part.sum for part in parts.values()]).sum() / LOSS_SCALE
            self.precision.scale(loss).backward()
            found.append({name: LossTerm(*(value.detach() for value in part)) for name, part in parts.items()})
        sums = self._sum_over_ranks(sums_of(*found), self.parts)
        broken = [f"the loss of {name}" for name, (nats, _, _) in sums.items() if not math.isfinite(nats)]
        if broken:
            raise NotFiniteError(broken)
        self._divide_by_counts(sums)
        return sums

    def _divide_by_counts(self, sums: Sums) -> None:
        """DDP left the mean over ranks of d(sum / LOSS_SCALE); each part's own global count makes it a mean over targets."""
        for name, parameters in self.parts.items():
            count = sums[name][1] if name in sums else 0
            if count:
                factor = LOSS_SCALE * self.world.size / count
                torch._foreach_mul_([parameter.grad for parameter in parameters if parameter.grad is not None], factor)

    def _sum_over_ranks(self, sums: Sums, names: Iterable[str] = ()) -> Sums:
        """``names`` if they are known to be the same on every rank; a rank without targets may lack some."""
        if self.world.size == 1:
            return sums
        names = sorted(names or {name for rank in self.world.gather(list(sums)) for name in rank})
        table = torch.tensor([sums.get(name, (0.0, 0.0, 0.0)) for name in names], dtype=torch.float64, device=self.device)
        return {name: (row[0], row[1], row[2]) for name, row in zip(names, self.world.sum(table).tolist(), strict=True)}

    def _pass_over(self, what: list[str], micro_batches: list[Batch]) -> None:
        """Keep the batch, and stop where there were too many: every rank finds the same, as sums and gradients are those of all."""
        progress, first = self.progress, self.progress.batch - len(micro_batches)
        if progress.step in self.bad.known:
            logging.warning("Step %d is not finite, as before: passed over", progress.step)
            return
        progress.bad_in_a_row += 1
        cuts = [
            cut
            for index, batch in enumerate(micro_batches)
            for cut in self.task.cuts_of(batch, epoch=progress.epoch, number=first + index, world=self.world)
        ]
        path = self.bad.keep(micro_batches, cuts, what=what, step=progress.step, epoch=progress.epoch, number=progress.batch)
        if progress.bad_in_a_row <= self.options.max_bad_batches:
            return
        advice = "--inf-check true names the module"
        if self.options.inf_check:
            here = first_not_finite(self.task.model, lambda: self._repeat(micro_batches))
            culprit = next((name for name in self.world.gather(here) if name), None)
            advice = f"first in module {culprit}" if culprit else "in no module alone"
        raise BrokenBatchError(
            step=progress.step, what=what, in_a_row=progress.bad_in_a_row, path=path, where=advice, dtype=self.precision.name
        )

    def _repeat(self, micro_batches: list[Batch]) -> None:
        """The last step's passes once more, with the same draws."""
        torch.manual_seed(step_seed(self.options.seed, self.world.rank, self.progress.step))
        for batch in micro_batches:
            with self.precision.autocast():
                parts = self.task.model(self.task.to_device(batch, self.device))
            self.precision.scale(torch.stack([part.sum for part in parts.values()]).sum() / LOSS_SCALE).backward()

    def _after_step(self, batch: Batch) -> None:
        progress, options = self.progress, self.options
        self.memory.check()
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
            progress.epoch, progress.batch, loss_text(progress.recent), loss_text(progress.total), about["batch_size"], progress.rate,
            100 * about["padding"],
        )  # fmt: skip
        self.recorder.scalars("current", progress.recent, progress.step)
        self.recorder.scalars("tot", progress.total, progress.step)
        for name in about.keys() - {"batch_size", "frames"}:
            self.recorder.scalar(f"train/{name}", about[name], progress.step)
        self.recorder.scalar("train/learning_rate", progress.rate, progress.step)
        self.recorder.scalar("train/grad_norm", progress.grad_norm, progress.step)
        seconds = self._seconds()
        frames = sum(count for _, count, _ in progress.recent.values())
        self.recorder.scalar("train/targets_per_second", frames / max(seconds - progress.logged_at, 1e-9), progress.step)
        self.recorder.curve(progress.step, seconds, "train", progress.recent)
        progress.logged_at, progress.recent = seconds, {}

    def validate(self) -> Sums:
        """Sums of every part on the dev set; the weights are kept if they are the best so far, here or in training."""
        progress = self.progress
        if progress.validated_at == progress.step:
            return progress.valid
        progress.valid = sums = self.evaluate()
        progress.validated_at = progress.step
        self._share_what_was_seen()
        logging.info("Epoch %d, validation: loss%s", progress.epoch, loss_text(sums))
        self.recorder.scalars("valid", sums, progress.step)
        self.recorder.curve(progress.step, self._seconds(), "valid", sums)
        self.state.keep_best_valid(progress)
        if progress.since_valid:
            self.state.keep_best_train(sum(means(progress.since_valid).values()), progress)
            progress.since_valid = {}
        if self.options.visualize and self.world.is_first:
            self.task.model.eval()
            for tag, wav, sample_rate in self.task.samples(progress.step):
                self.recorder.audio(tag, wav, sample_rate, progress.step)
        return sums

    def evaluate(self, *, of_train: bool = False) -> Sums:
        """Sums over the fixed validation batches (or as many train cuts), over all ranks, without dropout."""
        self.task.model.eval()
        sums: Sums = {}
        with torch.inference_mode(), self.precision.autocast():
            for batch in self.task.validation_batches(self.world, of_train=of_train):
                add_sums(sums, sums_of(self.task.validation_loss(self.task.to_device(batch, self.device))))
        return self._sum_over_ranks(sums)

    def _save(self, name: str) -> None:
        self.progress.seconds = self._seconds()
        self._share_what_was_seen()
        self.state.save(name, self.progress, self.precision)

    def _share_what_was_seen(self) -> None:
        """Each rank sees other crops."""
        ranks = self.world.gather(self.progress.seen)
        self.progress.seen = {part: max(seen.get(part, 0.0) for seen in ranks) for part in sorted(set[str]().union(*ranks))}

    def _wrapped(self) -> nn.Module:
        if self.options.is_compiled:
            compile_forward(self.task.model, self.device)
        if self.world.size == 1 or self.options.is_sharded:
            return self.task.model
        ids = [self.world.local_rank] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            self.task.model, device_ids=ids, gradient_as_bucket_view=True, find_unused_parameters=self.options.skips_parts
        )

    def _seconds(self) -> float:
        return self.clock.seconds()

    def _share_done(self) -> float:
        return self.clock.share_done(self.progress.step)

    def _is_over(self) -> bool:
        return self.clock.is_over(self.progress.step)


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
