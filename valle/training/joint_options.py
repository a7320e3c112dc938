"""Settings of a run that trains ``joint-lm``."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from valle.errors import UserError
from valle.models.joint_config import JointLMConfig
from valle.models.joint_tasks import JointTask
from valle.settings import require_at_least, setting
from valle.training.options import LoopOptions


@dataclass(frozen=True)
class JointOptions(LoopOptions):
    """A run that trains one decoder over text and units; ``bin/trainer_audiolm.py --model-name joint-lm``."""

    model_name: Literal["joint-lm"] = setting("joint-lm", "model to train")
    exp_dir: Path = setting(Path("exp/joint-lm"), "where checkpoints, logs and curves go; a run found there is resumed")
    tasks: list[str] = setting(
        ["ASR", "TTS", "MT"],
        "tasks to learn: LM, ASR, TTS, MT, AST, S2ST, or chains such as ASR+AST+S2ST; LM and MT alone make a text model without units",
    )
    task_weights: list[str] = setting([], "weights of tasks' outputs in the loss, such as TTS=0.3; 1 of a task that is not named")
    task_shares: list[str] = setting([], "how many utterances learn a task beside the others, such as ASR=2; 1 of a task that is not named")
    grow_from: Path | None = setting(
        None, "text model to grow from: a checkpoint of such a run, or the folder of a released one (Llama, SmolLM, Mistral, Qwen2), "
        "whose sizes are then taken",
    )  # fmt: skip
    new_rows: Literal["zero", "random"] = setting("random", "rows that the grown tables begin with: zero, or at the old rows' deviation")
    tied: bool = setting(True, "one table for input and output; of a released model as it has it")
    text: Path = setting(Path("data/tokenizers/text"), "the text tokenizer that stage 2 left; of a released model, its own folder")
    decoder_dim: int = setting(256, "width of the decoder")
    nhead: int = setting(4, "attention heads")
    num_decoder_layers: int = setting(6, "layers")
    dim_feedforward: int | None = setting(None, "width inside the feed-forward layers; 4 times --decoder-dim if not given")
    dropout: float = setting(0.0, "dropout")
    manifest_dir: Path = setting(Path("data/tokenized"), "where prepare.sh left cuts_train.jsonl.gz, cuts_dev.jsonl.gz and info.json")
    more_texts: Path | None = setting(None, "sentences beside the cuts', for tasks of text alone: a texts_train.jsonl.gz of stage 1")
    texts_per_utterance: float = setting(1.0, "sentences of --more-texts in an epoch for each utterance; all of them without speech")
    max_tokens: int = setting(4000, "tokens per batch, padding among them")
    num_workers: int = setting(0, "processes that make batches; 0 makes them in the trainer")
    filter_max_duration: float = setting(30.0, "leave out longer cuts, seconds")
    valid_max_cuts: int = setting(100, "dev utterances of each task at a validation")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [task.name for task in self.joint_tasks()]
        object.__setattr__(self, "tasks", names)
        if len(set(names)) < len(names) or not names:
            raise UserError(f"expected different tasks after --tasks, found {' '.join(names) or 'none'}")
        for name in ("task_weights", "task_shares"):
            if not sum(self.numbers(name)) > 0:
                raise UserError(f"expected --{name.replace('_', '-')} above 0 for one task at least, found {' '.join(getattr(self, name))}")
        require_at_least(self, 1, "max_tokens", "valid_max_cuts", "decoder_dim", "nhead", "num_decoder_layers")
        require_at_least(self, 0, "num_workers", "texts_per_utterance")
        if not self.filter_max_duration > 0:
            raise UserError(f"--filter-max-duration must be above 0 seconds, found {self.filter_max_duration:g}")

    def joint_tasks(self) -> list[JointTask]:
        return [JointTask.parse(task) for task in self.tasks]

    def numbers(self, name: Literal["task_weights", "task_shares"]) -> tuple[float, ...]:
        """One a task, in their order; what names a task that this run does not learn is left alone."""
        given: dict[str, float] = {}
        for entry in getattr(self, name):
            task, _, text = entry.partition("=")
            try:
                number = float(text)
            except ValueError:
                number = -1.0
            if not 0 <= number < inf:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"expected a task and a number of 0 or more after {flag}, such as TTS=0.3, found {entry!r}")
            given[JointTask.parse(task).name] = number
        return tuple(given.get(task, 1.0) for task in self.tasks)

    @property
    def needs_units(self) -> bool:
        return any(task.needs_units for task in self.joint_tasks())

    def config(self, *, num_pieces: int, num_units: int) -> JointLMConfig:
        """The sizes asked for, of a model that is not grown from a released one."""
        return JointLMConfig(
            d_model=self.decoder_dim, nhead=self.nhead, num_layers=self.num_decoder_layers,
            dim_feedforward=4 * self.decoder_dim if self.dim_feedforward is None else self.dim_feedforward, dropout=self.dropout,
            tied=self.tied, num_pieces=num_pieces, num_units=num_units,
        )  # fmt: skip
