"""The task of training a speech encoder by any of its objectives (see ``valle.models.speech_objectives``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.data.speech_crops import CropShape, SpeechCorpus, SpeechCrops, crop_batches
from valle.errors import UserError
from valle.models.checkpoint import hyper_parameters
from valle.models.loss import LossTerm
from valle.models.speech_objectives import Batch, HubertObjective, W2vBertObjective, Wav2Vec2Objective
from valle.models.speech_prediction import FutureObjective
from valle.modules.product_quantizer import GumbelQuantizer, gumbel_temperature, gumbel_temperature_of_share
from valle.tokenizers.front_ends import FRAME_HOP
from valle.tokenizers.speech_encoder import SpeechEncoder
from valle.training.distributed import World
from valle.training.speech_encoder_fit import load_encoder
from valle.training.speech_encoder_options import QUANTIZED, SpeechEncoderOptions
from valle.training.speech_encoder_targets import SAMPLE_RATE, TargetSets, make_targets

STATISTICS_BATCHES = 16  # on which the front end's statistics are taken, before the first step
VALID_BATCHES = 8


class SpeechEncoderTask:
    """Binds an encoder and its objective to crops of audio."""

    def __init__(self, options: SpeechEncoderOptions, world: World | None = None) -> None:
        self.options = options
        frame = Fraction(FRAME_HOP, SAMPLE_RATE)
        least = options.filter_min_duration
        self.corpus = SpeechCorpus.read(options.manifests, frame=frame, min_seconds=least)
        self.valid_corpus = SpeechCorpus.read([options.valid_manifest], frame=frame, min_seconds=least)
        self.shape = CropShape(
            sample_rate=SAMPLE_RATE, hop_length=FRAME_HOP, frames=max(2, round(options.crop_seconds / float(frame))),
            batch_size=options.batch_size, mask_share=options.mask_share, mask_span=options.mask_span,
        )  # fmt: skip
        self.targets: TargetSets | None = None
        if options.objective == "hubert":
            self.targets = make_targets(options, self.corpus, self.valid_corpus, world or World())
        torch.manual_seed(options.seed)
        self.encoder = SpeechEncoder(options.encoder_config())
        self.model: nn.Module = build_objective(options, self.encoder, self.targets.num_clusters if self.targets else [])
        if options.init_encoder is None:
            self._take_statistics()
        else:
            self._go_on_from(options.init_encoder)
        self.encoder.voice_change = options.voice_change

    def _take_statistics(self) -> None:
        crops = self._crops(self.corpus, epoch=0, num_batches=STATISTICS_BATCHES, with_targets=False)
        batches = [crops[index] for index in range(len(crops))]
        longest = max(batch["wav"].shape[1] for batch in batches)
        wav = torch.cat([nn.functional.pad(batch["wav"], (0, longest - batch["wav"].shape[1])) for batch in batches])
        self.encoder.front_end.take_statistics(wav, torch.cat([batch["lengths"] for batch in batches]))

    def _go_on_from(self, exp_dir: Path) -> None:
        """Its weights, and its front end's statistics, which they were learned with."""
        source = load_encoder(exp_dir)
        config = replace(source.config, bottleneck=None)
        if config != self.encoder.config:
            theirs, ours = asdict(config), asdict(self.encoder.config)
            other = ", ".join(f"{name} {value}" for name, value in theirs.items() if value != ours[name])
            raise UserError(f"expected an encoder of the sizes asked for in {exp_dir}, found {other}; give the flags of that run")
        weights = source.state_dict()
        self.encoder.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith("bottleneck.")})
        if source.bottleneck is None:
            return
        if self.options.objective != "vq-wav2vec" or self.options.quantizer_config() != source.config.bottleneck:
            raise UserError(
                f"expected --objective vq-wav2vec and the quantizer's sizes of the run in {exp_dir}, whose encoder hears through its "
                f"quantizer, found {self.options.objective}; give the flags of that run"
            )
        learned = {name.removeprefix("bottleneck."): tensor for name, tensor in weights.items() if name.startswith("bottleneck.")}
        self.model.load_state_dict({**self.model.state_dict(), **learned})

    def _crops(self, corpus: SpeechCorpus, *, epoch: int, num_batches: int, with_targets: bool = True) -> SpeechCrops:
        stored = None
        if self.targets is not None and with_targets:
            stored = self.targets.valid if corpus is self.valid_corpus else self.targets.train
        return SpeechCrops(corpus, self.shape, targets=stored, num_batches=num_batches, seed=self.options.seed, epoch=epoch)

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        return {self.options.objective: list(self.model.parameters())}

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[Batch]:
        crops = self._crops(self.corpus, epoch=epoch * world.size + world.rank, num_batches=self.options.batches_per_epoch)
        return crop_batches(crops, skip=skip, num_workers=self.options.num_workers)

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[Batch]:
        crops = self._crops(self.corpus if of_train else self.valid_corpus, epoch=0, num_batches=VALID_BATCHES)
        return (crops[index] for index in range(world.rank, VALID_BATCHES, world.size))

    def validation_loss(self, batch: Batch) -> dict[str, LossTerm]:
        parts: dict[str, LossTerm] = self.model(batch)
        return parts

    def to_device(self, batch: Batch, device: torch.device) -> Batch:
        return {name: tensor if name == "seed" else tensor.to(device, non_blocking=True) for name, tensor in batch.items()}

    def part_of(self, valid_name: str) -> str:
        return self.options.objective  # the only part, of all loss terms

    def cuts_of(self, batch: Batch, *, epoch: int, number: int, world: World) -> list[str]:
        return self._crops(self.corpus, epoch=epoch * world.size + world.rank, num_batches=number + 1).cut_ids(number)

    def seen_seconds(self, batch: Batch) -> dict[str, float]:
        return {}  # an encoder hears any length

    def longest_batches(self) -> Iterator[Batch]:
        return iter(())

    def describe(self, batch: Batch) -> dict[str, float]:
        samples = batch["wav"].numel()
        heard = float(batch["lengths"].sum())
        return {"batch_size": len(batch["wav"]), "frames": heard / FRAME_HOP, "padding": 1 - heard / samples}

    def after_step(self, step: int, share_done: float) -> None:
        """The Gumbel softmax cools as a function of the step, or of the share of the run that is done."""
        quantizer = getattr(self.model, "quantizer", None)
        if not isinstance(quantizer, GumbelQuantizer):
            return
        if self.options.gumbel_share:
            quantizer.temperature = gumbel_temperature_of_share(share_done / self.options.gumbel_share)
        else:
            quantizer.temperature = gumbel_temperature(step, factor=self.options.gumbel_decay)

    def checkpoint_fields(self, seen: Mapping[str, float] | None = None) -> dict[str, Any]:
        return {
            **hyper_parameters(self.options),
            "encoder": asdict(self.encoder.config),
            "identities": {"targets": self.targets.identities if self.targets else []},
            "timeline": None,
            "tokenizers": None,
        }

    def samples(self, step: int) -> list[tuple[str, Tensor, int]]:
        """An encoder has nothing to be heard."""
        return []


def build_objective(options: SpeechEncoderOptions, encoder: SpeechEncoder, num_clusters: list[int]) -> nn.Module:
    """The objective that the options name, around ``encoder``."""
    if options.objective == "hubert":
        code_dim = options.code_dim if options.hubert_head == "cosine" else None
        return HubertObjective(encoder, num_clusters, masked_weight=options.masked_weight, code_dim=code_dim)
    quantizer = None
    if options.objective in QUANTIZED:
        quantizer = options.quantizer_config().build(encoder.front_end.size)
    if options.objective in ("wav2vec", "vq-wav2vec"):
        return FutureObjective(
            encoder, quantizer, code_dim=options.code_dim, num_steps=options.prediction_steps, num_negatives=options.negatives(),
            penalty=options.penalty(),
        )  # fmt: skip
    if quantizer is None:
        raise UserError(f"expected one of the objectives that trainer_speech_encoder.py --help lists, found {options.objective!r}")
    kind = Wav2Vec2Objective if options.objective == "wav2vec2" else W2vBertObjective
    return kind(encoder, quantizer, code_dim=options.code_dim, num_negatives=options.negatives(), penalty=options.penalty())
