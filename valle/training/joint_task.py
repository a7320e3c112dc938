"""The task of training ``joint-lm``: one decoder, several tasks over text and units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.data.joint_batches import JointBatch, JointBatches, Row, Tasks, rows_of_all_tasks, rows_of_epoch
from valle.data.spoken_texts import SpokenText, SpokenTexts
from valle.data.workers import read_batches
from valle.errors import UserError
from valle.models.checkpoint import hyper_parameters, load_checkpoint
from valle.models.joint_config import JointLMConfig
from valle.models.joint_lm import JointLM
from valle.models.joint_tasks import JointTask, Sequences, Side
from valle.models.loss import LossTerm
from valle.models.text_model import load_text_model
from valle.tokenizers.registry import expect_semantic, load_tokenizer, tokenizer_to_checkpoint
from valle.tokenizers.text_pieces import TextTokenizer, load_text_tokenizer, text_tokenizer_from_state, text_tokenizer_to_state
from valle.tokenizing.token_manifests import ManifestError, read_manifests
from valle.training.distributed import World
from valle.training.joint_options import JointOptions

PART = "joint"


class JointLMTask:
    """Binds ``JointLM`` to tokenized cuts with transcripts."""

    def __init__(self, options: JointOptions) -> None:
        self.options, self.tasks = options, options.joint_tasks()
        self.manifests = read_manifests(options.manifest_dir)
        self.manifests.refuse_overlap()
        self.semantic = self._semantic() if options.needs_units else None
        torch.manual_seed(options.seed)
        self.model, self.text = build_model(options, num_units=self.semantic.num_units if self.semantic else 0)
        self.sequences = Sequences(self.model.config, self.text)
        self.train_texts, self.valid_texts = (
            SpokenTexts.read(
                self.manifests, part, self.text.encode, with_units=options.needs_units, max_seconds=options.filter_max_duration
            )
            for part in ("train", "dev")
        )
        spoken, self.text_share = len(self.train_texts.by_id), 1.0
        if options.more_texts is not None:
            self.train_texts = self.train_texts.with_texts(options.more_texts, self.text.encode)
            unspoken = len(self.train_texts.by_id) - spoken
            if options.needs_units and unspoken:
                self.text_share = min(1.0, options.texts_per_utterance * spoken / unspoken)
        self.mixture = Tasks(
            shares=options.numbers("task_shares"), weights=options.numbers("task_weights"),
            translates=tuple(task.translates for task in self.tasks), needs_units=tuple(task.needs_units for task in self.tasks),
            build=self._build,
        )  # fmt: skip
        if not rows_of_epoch(self.train_texts, self.mixture, seed=0, epoch=1):
            raise ManifestError(f"expected translations in {options.manifest_dir} for --tasks {' '.join(options.tasks)}, found none")
        self._fixed: dict[bool, list[JointBatch]] = {}

    def _semantic(self) -> Any:
        if self.manifests.semantic is None:
            raise ManifestError(f"expected units in {self.manifests.folder}, found codes only; tokenize with units, or use --tasks LM MT")
        tokenizer = expect_semantic(load_tokenizer(str(self.manifests.tokenizers_folder / "semantic")))
        if tokenizer.identity != self.manifests.semantic:
            raise ManifestError(
                f"expected the tokenizer {self.manifests.semantic} in {self.manifests.tokenizers_folder}, found {tokenizer.identity}; "
                "run ./prepare.sh"
            )
        return tokenizer

    def _build(self, row: Row) -> tuple[list[int], int]:
        partner = None if row.partner is None else _side(row.partner)
        return self.sequences.example(self.tasks[row.task], _side(row.spoken), partner)

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        return {PART: list(self.model.parameters())}

    def _epoch(self, epoch: int) -> JointBatches:
        rows = rows_of_epoch(self.train_texts, self.mixture, seed=self.options.seed, epoch=epoch, text_share=self.text_share)
        return JointBatches(rows, self.mixture, max_tokens=self.options.max_tokens, seed=self.options.seed, epoch=epoch)

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[JointBatch]:
        dataset = self._epoch(epoch)
        order = range(world.rank, len(dataset) // world.size * world.size, world.size)[skip:]
        return read_batches(dataset, order, num_workers=self.options.num_workers)

    def cuts_of(self, batch: JointBatch, *, epoch: int, number: int, world: World) -> list[str]:
        return list(batch.cut_ids)

    def to_device(self, batch: JointBatch, device: torch.device) -> JointBatch:
        moved = JointBatch({name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()})
        moved.cut_ids = batch.cut_ids
        return moved

    def describe(self, batch: JointBatch) -> dict[str, float]:
        filled = float(batch["lengths"].sum())
        return {"batch_size": len(batch["tokens"]), "frames": filled, "padding": 1 - filled / batch["tokens"].numel()}

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[JointBatch]:
        if of_train not in self._fixed:
            texts = self.train_texts if of_train else self.valid_texts
            rows = rows_of_all_tasks(texts, self.mixture, most=self.options.valid_max_cuts)
            batches: list[JointBatch] = []
            for task in range(len(self.tasks)):  # a batch is of one task, whose term it is
                own = [row for row in rows if row.task == task]
                dataset = JointBatches(own, self.mixture, max_tokens=self.options.max_tokens, seed=0, epoch=0)
                batches += [dataset[index] for index in range(len(dataset))]
            if not batches:
                raise ManifestError(
                    f"expected dev cuts for --tasks {' '.join(self.options.tasks)}, found none; prepare more minutes of dev"
                )
            self._fixed[of_train] = batches
        return iter(self._fixed[of_train][world.rank :: world.size])

    def validation_loss(self, batch: JointBatch) -> dict[str, LossTerm]:
        even = {**batch, "weights": torch.ones_like(batch["weights"])}
        return {term_name(self.tasks[int(batch["tasks"][0])]): self.model.loss(**even)}

    def part_of(self, valid_name: str) -> str:
        return PART

    def seen_seconds(self, batch: JointBatch) -> dict[str, float]:
        return {}

    def longest_batches(self) -> Iterator[JointBatch]:
        return iter(())

    def after_step(self, step: int, share_done: float) -> None:
        """Nothing follows a step."""

    def checkpoint_fields(self, seen: Mapping[str, float] | None = None) -> dict[str, Any]:
        semantic = self.semantic
        return {
            **hyper_parameters(self.options),
            "joint": asdict(self.model.config),
            "identities": {"semantic": semantic.identity.to_dict() if semantic else None, "text": self.text.identity.to_dict()},
            "timeline": None,
            "tokenizers": {
                "semantic": tokenizer_to_checkpoint(semantic) if semantic else None, "text": text_tokenizer_to_state(self.text),
            },
            "longest_seconds": longest_seconds(self.train_texts, semantic),
        }  # fmt: skip

    def samples(self, step: int) -> list[tuple[str, Tensor, int]]:
        """Units have no sound of their own."""
        return []


def term_name(task: JointTask) -> str:
    """The name of a task's loss: ``joint_asr``."""
    return f"{PART}_{task.name.lower()}"


def longest_seconds(texts: SpokenTexts, semantic: Any) -> float:
    """The longest utterance that was learned from; 0 for a model of text alone."""
    if semantic is None:
        return 0.0
    return float(max(len(spoken.units) for spoken in texts.by_id.values()) * semantic.identity.grid.step)


def build_model(options: JointOptions, *, num_units: int) -> tuple[JointLM, TextTokenizer]:
    """A model of the options' sizes and its text tokenizer, fresh or grown."""
    source = options.grow_from
    if source is None:
        text = load_text_tokenizer(options.text)
        return JointLM(options.config(num_pieces=text.num_pieces, num_units=num_units)), text
    if source.is_dir():
        released = load_text_model(source)
        text = load_text_tokenizer(source)
        if text.num_pieces > released.config.num_pieces:
            raise UserError(
                f"expected a tokenizer of at most {released.config.num_pieces} pieces, as the model in {source} has rows, found one of "
                f"{text.num_pieces}; download both again"
            )
        model = JointLM(replace(released.config, num_units=num_units, dropout=options.dropout))
        model.take_text_model(released.weights, new_rows=options.new_rows)
        return model, text
    return _grown_from_run(source, options, num_units)


def _grown_from_run(source: Path, options: JointOptions, num_units: int) -> tuple[JointLM, TextTokenizer]:
    state = load_checkpoint(source)
    if "joint" not in state:
        raise UserError(f"expected a checkpoint of --model-name joint-lm in {source}, found another; name one trained with --tasks LM")
    config = JointLMConfig.from_fields(state["joint"])
    if config.num_units not in (0, num_units):
        raise UserError(f"expected a text model, or one of {num_units} units, in {source}, found one of {config.num_units} units")
    text = text_tokenizer_from_state(state["tokenizers"]["text"])
    model = JointLM(replace(config, num_units=num_units, dropout=options.dropout))
    model.take_text_model(state["model"], new_rows=options.new_rows)
    return model, text


def _side(spoken: SpokenText) -> Side:
    return Side(spoken.language, pieces=spoken.pieces.tolist(), units=spoken.units.tolist())
