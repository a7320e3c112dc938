"""Every setting of a training run, with the names that users of icefall expect."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from operator import index
from pathlib import Path
from typing import Any, ClassVar, Literal

from valle.errors import UserError
from valle.models.config import AudioLMConfig
from valle.models.registry import SEMANTIC_STAGES, acoustic_type, all_stages
from valle.models.stage_flags import a_flag_per_stage, of_stage
from valle.settings import flags_of, refuse_small, require_at_least, setting

WARMUP_SHARE = 0.05  # of a run that the clock ends


@dataclass(frozen=True)
class LoopOptions:
    """What the loop itself needs, whatever it trains."""

    exp_dir: Path = setting(Path("exp/audio-lm"), "where checkpoints, logs and curves go; a run found there is resumed")
    num_epochs: int = setting(20, "epochs to train for")
    max_steps: int = setting(0, "stop after this many steps; 0 for no limit")
    max_minutes: float = setting(0.0, "stop after this many minutes; 0 for no limit (with a limit, a run is not repeatable bit for bit)")
    start_epoch: int = setting(1, "resume from epoch-(N-1).pt; 1 resumes from the newest checkpoint, if there is one")
    start_batch: int = setting(0, "resume from checkpoint-N.pt; 0 for automatic")
    world_size: int = setting(1, "processes on this machine; torchrun overrides it")
    master_port: int = setting(12354, "port on which the processes of --world-size meet; a free one if it is taken")
    optimizer_name: Literal["ScaledAdam", "AdamW", "Muon"] = setting(
        "ScaledAdam", "optimizer; Muon is for the matrices inside the layers and takes AdamW's rate, with AdamW for the rest"
    )
    scheduler_name: Literal["Eden", "cosine"] = setting("Eden", "learning-rate schedule; cosine needs --max-steps or --max-minutes")
    base_lr: float = setting(0.05, "peak learning rate (0.05 for ScaledAdam, about 0.001 for AdamW and Muon)")
    warmup_steps: int = setting(200, "steps over which the learning rate rises; at most half of a cosine's --max-steps")
    warmup_share: float | None = setting(
        None, "share of a cosine's run over which the learning rate rises; not given: 0.05 where --max-minutes ends it, else --warmup-steps"
    )
    weight_decay: float = setting(0.01, "of AdamW")
    clip_grad_norm: float = setting(1.0, "largest gradient norm of each stage; 0 for no clipping")
    accumulate_grad_steps: int = setting(1, "batches per optimizer step")
    seed: int = setting(42, "seed of all random numbers")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = setting(
        "auto", "number format of matrix products; auto measures once and keeps the result"
    )
    device: str = setting("auto", "cpu, cuda or mps; auto takes the fastest available")
    num_threads: int = setting(0, "CPU threads per process; 0 for torch's default")
    save_every_n: int = setting(1000, "steps between checkpoint-N.pt files")
    keep_last_k: int = setting(3, "checkpoint-N.pt files to keep")
    valid_interval: int = setting(500, "steps between validations; there is one at each epoch's end too")
    epoch_ends: bool = setting(True, "validate and write epoch-N.pt at each epoch's end; use false with short epochs, as in fine-tuning")
    log_interval: int = setting(50, "steps between log lines")
    average_period: int = setting(100, "steps between updates of the averaged model")
    inf_check: bool = setting(False, "name the first module whose output is not finite")
    max_bad_batches: int = setting(3, "batches in a row to pass over whose loss or gradients are not finite; one more ends the run")
    oom_check: bool = setting(False, "try the longest batches before training")
    tensorboard: bool = setting(True, "write tensorboard events")
    visualize: bool = setting(False, "write spectrograms and audio of dev continuations at validations")
    overfit_one_batch: bool = setting(False, "train on the first batch only; its loss must fall to nearly zero")

    def __post_init__(self) -> None:
        require_at_least(
            self, 1, "num_epochs", "world_size", "accumulate_grad_steps", "average_period", "valid_interval", "log_interval", "start_epoch",
            "keep_last_k",
        )  # fmt: skip
        require_at_least(
            self, 0, "max_steps", "max_minutes", "start_batch", "warmup_steps", "weight_decay", "clip_grad_norm", "num_threads",
            "save_every_n", "seed", "max_bad_batches",
        )  # fmt: skip
        object.__setattr__(self, "seed", index(self.seed))  # of any integer type
        if self.warmup_share is not None and not 0 <= self.warmup_share < 1:
            raise UserError(f"--warmup-share must be 0 or more and below 1, found {self.warmup_share}")
        if self.warmup_share is not None and self.scheduler_name != "cosine":
            raise UserError("--warmup-share is for --scheduler-name cosine, found Eden, which rises over --warmup-steps; give one of them")
        if self.seed >= 2**63:
            raise UserError(f"--seed must be below 2 to the power of 63, found {self.seed}")
        if not 1 <= self.master_port <= 65535:
            raise UserError(f"--master-port must be a port, 1 to 65535, found {self.master_port}")
        if not 0 < self.base_lr < inf:
            raise UserError(f"--base-lr must be above 0, found {self.base_lr}")
        if self.scheduler_name == "cosine" and not (self.max_steps or self.max_minutes):
            raise UserError(
                "--scheduler-name cosine falls to zero at the end of training and must know when that is: give --max-steps or --max-minutes"
            )

    @property
    def separates_parts(self) -> bool:
        """Whether each part of the loss has groups of the optimizer of its own."""
        return False

    @property
    def warmup(self) -> float:
        """The share of a cosine's run over which the rate rises."""
        if self.warmup_share is not None:
            return self.warmup_share
        return WARMUP_SHARE if self.max_minutes else min(0.5, self.warmup_steps / self.max_steps)

    @property
    def is_sharded(self) -> bool:
        """Whether processes share the weights instead of each holding all of them."""
        return False

    @property
    def is_compiled(self) -> bool:
        return False

    @property
    def adam_betas(self) -> tuple[float, float]:
        return 0.9, 0.98

    @property
    def skips_parts(self) -> bool:
        """Whether a batch may lack some parts, whose weights its step leaves alone."""
        return False

    def rate_of_part(self, part: str, step: int) -> float:
        """The learning rate of ``part`` at ``step`` as a multiple of the run's, where parts are separate."""
        return 1.0


@dataclass(frozen=True)
class AudioOptions(LoopOptions):
    """What a run needs that learns from audio itself, not from tokens."""

    manifests: list[Path] = setting([], "manifests of cuts to learn from")
    batch_size: int = setting(16, "pieces of audio in a batch")
    batches_per_epoch: int = setting(1000, "batches that count as an epoch")
    num_workers: int = setting(1, "processes that read audio; 0 reads in the trainer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.manifests:
            raise UserError("expected manifests of cuts after --manifests, found none; stage 1 of a recipe's prepare.sh writes them")
        require_at_least(self, 1, "batch_size", "batches_per_epoch")
        require_at_least(self, 0, "num_workers")


AudioLMFlags: Any = flags_of(AudioLMConfig, "AudioLMFlags")


@dataclass(frozen=True)
@a_flag_per_stage("seconds", float, lambda stage: stage.crop_seconds, lambda stage: f"longest crop of the {stage.name} stage")
@a_flag_per_stage("crops", int, lambda stage: 1, lambda stage: f"crops of each cut for the {stage.name} stage")
@a_flag_per_stage("batches", int, lambda stage: 1, lambda stage: f"batches of --max-duration that make a step of the {stage.name} stage")
@a_flag_per_stage("lr", float, lambda stage: 0.0, lambda stage: f"peak learning rate of the {stage.name} stage; 0 for --base-lr")
class AudioLMOptions(AudioLMFlags, LoopOptions):
    """A run that trains an AudioLM; the model's own flags are declared in ``AudioLMConfig``."""

    preset_folder: ClassVar[Path] = Path(__file__).parent / "presets"  # of --preset

    model_name: Literal["audio-lm"] = setting("audio-lm", "model to train")
    train_stage: str = setting(
        "all", "semantic, coarse, fine or all; several with commas; 0 is all, 1 and 2 the acoustic model's first and second stage"
    )
    init_from: Path | None = setting(None, "load stages of the same shape from this checkpoint or released folder")
    codebook_init: bool = setting(True, "initialise code embeddings from the codec's vectors, not at random")
    unit_bpe: Path = setting(
        Path("data/unit_bpe.json"),
        "byte pairs, where --unit-sequence is bpe: a file of fit_unit_bpe.py, or a checkpoint or released folder",
    )
    prompt_share_to: float = setting(0.0, "sample the share of each example between --prompt-share and this; 0 for a fixed share")
    manifest_dir: Path = setting(Path("data/tokenized"), "where prepare.sh left cuts_train.jsonl.gz, cuts_dev.jsonl.gz and info.json")
    max_duration: float = setting(80.0, "seconds of audio per batch; use as much as fits into memory")
    num_buckets: int = setting(10, "buckets of similar length")
    buffer_size: int = setting(2000, "cuts held ready for bucketing")
    shuffle_buffer_size: int = setting(4000, "cuts held ready for shuffling")
    num_workers: int = setting(1, "processes that read batches; 0 reads in the trainer")
    drop_last: bool = setting(False, "leave out incomplete batches at an epoch's end")
    filter_min_duration: float = setting(0.5, "leave out shorter cuts, seconds")
    filter_max_duration: float = setting(60.0, "leave out longer cuts, seconds")
    valid_max_cuts: int = setting(200, "dev cuts at a validation")
    compile: bool = setting(False, "compile the model's forward pass with torch.compile; the first steps take minutes")
    fsdp: bool = setting(False, "share weights, gradients and optimizer state among the processes, for models that do not fit one GPU")

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = self.stages()
        object.__setattr__(self, "train_stage", "all" if stages == self.known_stages() else ",".join(stages))  # aliases are the same
        if self.filter_min_duration >= self.filter_max_duration:
            raise UserError(
                f"--filter-min-duration {self.filter_min_duration} leaves nothing below --filter-max-duration {self.filter_max_duration}"
            )
        if self.max_duration <= 0:
            raise UserError(f"--max-duration must be above 0 seconds, found {self.max_duration}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--dropout must lie in 0..1, found {self.dropout}")
        for stage in self.known_stages():
            if not self.seconds_of(stage) > 0:
                raise UserError(f"--{stage}-seconds must be above 0 seconds, found {self.seconds_of(stage)}")
            for name, number in (("crops", self.crops_of(stage)), ("batches", self.batches_of(stage))):
                if number < 1:
                    raise UserError(f"--{stage}-{name} must be 1 or more, found {number}")
            if not 0 <= (rate := of_stage(self, stage, "lr") or 0.0) < inf:
                raise UserError(f"--{stage}-lr must be 0 (for --base-lr) or above, found {rate}")
        require_at_least(self, 1, "num_buckets", "buffer_size", "shuffle_buffer_size", "valid_max_cuts")
        require_at_least(self, 0, "num_workers", "filter_min_duration")
        refuse_small(self)
        if self.fsdp and self.optimizer_name == "Muon":
            raise UserError("Muon needs whole matrices, which --fsdp true spreads out; use AdamW, or leave --fsdp out")
        if self.fsdp and self.visualize:
            raise UserError("--visualize true continues dev recordings with all weights, which --fsdp true spreads out; leave one out")
        if self.prompt_share_to and not self.prompt_share < self.prompt_share_to < 1:
            raise UserError(f"--prompt-share-to must lie between --prompt-share {self.prompt_share} and 1, found {self.prompt_share_to}")

    @property
    def separates_parts(self) -> bool:
        return any(of_stage(self, stage, "lr") for stage in self.known_stages())

    def rate_of_part(self, part: str, step: int) -> float:
        own: float = of_stage(self, part, "lr") or self.base_lr
        return own / self.base_lr

    @property
    def is_sharded(self) -> bool:
        return self.fsdp

    @property
    def is_compiled(self) -> bool:
        return self.compile

    def stages(self) -> tuple[str, ...]:
        """The stages to train, in order."""
        known, acoustic = self.known_stages(), [stage.name for stage in acoustic_type(self.acoustic_model).stage_types]
        numbers = {"0": "all", **{str(place): name for place, name in enumerate(acoustic, start=1)}}
        names = [numbers.get(name, name) for name in self.train_stage.replace(" ", "").split(",")]
        for name in names:
            if name not in (*known, "all"):
                meanings = ", ".join(f"{number} ({name})" for number, name in numbers.items())
                raise UserError(f"--train-stage must be {', '.join(known)}, all or {meanings}, found {name!r}")
        return known if "all" in names else tuple(stage for stage in known if stage in names)

    def known_stages(self) -> tuple[str, ...]:
        """The stages that a model of these settings may have, in order."""
        semantic = SEMANTIC_STAGES.get(self.unit_sequence)
        if semantic is None:
            raise UserError(f"--unit-sequence must be one of {', '.join(SEMANTIC_STAGES)}, found {self.unit_sequence!r}")
        return semantic.name, *(stage.name for stage in acoustic_type(self.acoustic_model).stage_types)

    def seconds_of(self, stage: str) -> float:
        """The longest crop of a stage."""
        own: float | None = of_stage(self, stage, "seconds")
        return all_stages()[stage].crop_seconds if own is None else own

    def crops_of(self, stage: str) -> int:
        """Crops that a stage takes of each cut of a batch."""
        own: int | None = of_stage(self, stage, "crops")
        return 1 if own is None else own

    def batches_of(self, stage: str) -> int:
        """Batches of the sampler that make one step of a stage."""
        own: int | None = of_stage(self, stage, "batches")
        return 1 if own is None else own

    @property
    def skips_parts(self) -> bool:
        """Whether a batch may lack some parts, whose weights its step leaves alone."""
        return any(self.batches_of(stage) > 1 for stage in self.stages())
