"""What a run will take before it is started: parameters, work and memory of each stage, and hours, without any data or GPU.

A batch of the usual size goes through each stage on torch's meta device, which knows shapes and holds no numbers; its products are
counted by torch, and what the backward pass needs is added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from valle.crops import CroppedTokens
from valle.errors import UserError
from valle.models import AudioLM, AudioLMConfig
from valle.models.stage import ExampleSettings, Stage
from valle.settings import fields_from_flags, require_at_least, setting
from valle.timeline import Grid, Timeline
from valle.training.options import AudioLMOptions

BYTES_OF_STATE = {"ScaledAdam": 16, "AdamW": 16, "Muon": 12}  # a parameter's own four bytes, its gradient, the optimizer's moments
GIB = 2**30


@dataclass(frozen=True)
class EstimateOptions(AudioLMOptions):
    """A run by its flags, and the corpus and the machine that it is meant for."""

    hours: float = setting(960.0, "hours of audio in the train part")
    mean_seconds: float = setting(12.3, "length of a cut; LibriSpeech's mean is 12.3 s")
    num_units: int = setting(500, "kinds of units; 0 for a model without")
    codebook_size: int = setting(1024, "codes of a codebook")
    unit_rate: int = setting(25, "units a second")
    code_rate: int = setting(50, "frames of codes a second")
    tflops: float = setting(989.0, "peak of a GPU in bfloat16, in 10^12 operations a second; an H100 has 989, an A100 312")
    utilisation: float = setting(0.3, "share of the peak that training reaches")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "num_units")
        require_at_least(self, 1, "codebook_size", "unit_rate", "code_rate")
        for name in ("hours", "mean_seconds", "tflops"):
            if not getattr(self, name) > 0:
                raise UserError(f"--{name.replace('_', '-')} must be above 0, found {getattr(self, name)}")
        if not 0 < self.utilisation <= 1:
            raise UserError(f"--utilisation must lie above 0 and up to 1, found {self.utilisation}")

    @property
    def timeline(self) -> Timeline:
        rate = self.unit_rate * self.code_rate
        return Timeline(codes=Grid(rate, self.unit_rate), units=Grid(rate, self.code_rate) if self.num_units else None)

    @property
    def model_config(self) -> AudioLMConfig:
        units: dict[str, Any] = {}
        if self.num_units:
            periods = self.timeline.periods
            units = {"num_units": self.num_units, "units_per_period": periods.units, "frames_per_period": periods.frames}
        return AudioLMConfig(**fields_from_flags(AudioLMConfig, self), codebook_size=self.codebook_size, **units)


@dataclass(frozen=True)
class StageCost:
    """Of one stage, on one GPU."""

    name: str
    parameters: int
    operations: float  # of a batch of --max-duration, forward and backward
    activations: int  # bytes in float32 that wait for the backward pass


@dataclass(frozen=True)
class Estimate:
    """Of a whole run."""

    stages: tuple[StageCost, ...]
    steps: int
    gpu_hours: float
    memory: float  # bytes of a GPU


def estimate(options: EstimateOptions) -> Estimate:
    """What training by ``options`` takes, if it is bounded by epochs or steps.

    Operations count whole attention matrices and no recomputation.  Memory is that of float32 activations, which bfloat16 about
    halves; fused attention is assumed, which keeps no matrix of weights.
    """
    stages = tuple(stage_costs(options))
    audio_a_step = options.max_duration * options.world_size * options.accumulate_grad_steps
    steps = max(1, round(options.hours * 3600 * options.num_epochs / audio_a_step))
    if options.max_steps:
        steps = min(steps, options.max_steps)
    operations = sum(stage.operations for stage in stages) * options.accumulate_grad_steps * options.world_size
    seconds = steps * operations / (options.tflops * 1e12 * options.utilisation)
    state = sum(stage.parameters for stage in stages) * BYTES_OF_STATE[options.optimizer_name]
    if options.is_sharded:
        state //= options.world_size
    return Estimate(stages, steps, seconds / 3600, state + sum(stage.activations for stage in stages))


def stage_costs(options: EstimateOptions, *, device: str = "meta") -> Iterator[StageCost]:
    """Of one batch of ``max_duration`` seconds; on another device than meta, the batch is really computed."""
    config = options.model_config
    with torch.device(device):
        model = AudioLM.from_config(config)
    for name, stage in model.stages().items():
        if name not in options.stages():
            continue
        batch = {key: tensor.to(device) for key, tensor in _batch(options, config, name, type(stage)).items()}
        operations, activations = _cost(stage, batch)
        parameters = sum(parameter.numel() for parameter in stage.parameters())
        yield StageCost(name, parameters, operations / options.batches_of(name), activations)


def _batch(options: EstimateOptions, config: AudioLMConfig, name: str, kind: type[Stage]) -> dict[str, Tensor]:
    longest = max(options.seconds_of(stage) for stage in options.stages())
    count = max(1, int(options.max_duration / min(options.mean_seconds, longest)))
    timeline = options.timeline
    periods = max(1, timeline.periods_for(min(options.mean_seconds, options.seconds_of(name))))
    crop = CroppedTokens(
        cut_id="", units=np.zeros(periods * timeline.units_per_period, np.int64),
        codes=np.zeros((periods * timeline.frames_per_period, config.num_quantizers), np.int64), starts=True, ends=True, seed=0, epoch=1,
    )  # fmt: skip
    return kind.collate([crop] * (count * options.crops_of(name) * options.batches_of(name)), ExampleSettings(config=config))


def _cost(stage: Stage, batch: dict[str, Tensor]) -> tuple[float, int]:
    """Operations of a pass forward and backward, and the bytes of what it keeps, but for weights and attention matrices."""
    kept: dict[int, Tensor] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in stage.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        is_attention = tensor.ndim == 4 and tensor.shape[-1] == tensor.shape[-2]
        if storage not in weights and not is_attention:
            kept[storage] = tensor  # and so its storage lives, and no other takes its place
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        stage.loss(**batch).sum.backward()
    return float(counter.get_total_flops()), sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
